# The main job with the client that openapi-python-client makes of openapi/openapi.json. Prints each part that is done.
import json
import sys
import time

from anneal import AuthenticatedClient
from anneal.api.chat import create_chat_completion
from anneal.api.files import create_file, delete_file, retrieve_file
from anneal.api.fine_tuning import (
    create_fine_tuning_job,
    list_fine_tuning_events,
    list_fine_tuning_job_checkpoints,
    retrieve_fine_tuning_job,
)
from anneal.api.models import delete_model, list_models
from anneal.models import (
    ChatCompletionMessage,
    ChatCompletionMessageRole,
    CreateChatCompletionRequest,
    CreateFileRequest,
    CreateFileRequestPurpose,
    CreateFineTuningJobRequest,
    CreateFineTuningJobRequestMetadataType0,
    ErrorResponse,
    Hyperparameters,
)
from anneal.types import UNSET, File

url, key, model = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key)
question = "What does the cow say?"
line = {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "moo"}]}

content = (json.dumps(line) + "\n").encode() * 12
upload = File(payload=content, file_name="train.jsonl", mime_type="application/jsonl")
file = create_file.sync(
    client=client, body=CreateFileRequest(file=upload, purpose=CreateFileRequestPurpose.FINE_TUNE)
)
print("upload")

request = CreateFineTuningJobRequest(
    model=model, training_file=file.id, hyperparameters=Hyperparameters(n_epochs=2),
    metadata=CreateFineTuningJobRequestMetadataType0.from_dict({"team": "python"}),
)
job = create_fine_tuning_job.sync(client=client, body=request)
while job.status != "succeeded":
    assert job.status != "failed", job.error
    time.sleep(0.1)
    job = retrieve_fine_tuning_job.sync(job.id, client=client)
print("job")

# This generator has no maps in queries.
found = client.get_httpx_client().get("/v1/fine_tuning/jobs", params={"metadata[team]": "python"})
print("found", len(found.json()["data"]))

events = list_fine_tuning_events.sync(job.id, client=client)
assert any(event.type_ == "metrics" for event in events.data)
print("events")

after, steps = UNSET, []
while after is not None:
    page = list_fine_tuning_job_checkpoints.sync(job.id, client=client, limit=1, after=after)
    steps += [checkpoint.step_number for checkpoint in page.data]
    after = page.last_id if page.has_more else None
print("checkpoints", len(steps))

assert job.fine_tuned_model in [model.id for model in list_models.sync(client=client).data]
print("models")

message = ChatCompletionMessage(role=ChatCompletionMessageRole.USER, content=question)
answer = create_chat_completion.sync(
    client=client,
    body=CreateChatCompletionRequest(
        model=job.fine_tuned_model, messages=[message], max_completion_tokens=4
    ),
)
assert answer.choices[0].message.role == "assistant"
print("chat")

assert delete_model.sync(job.fine_tuned_model, client=client).deleted
assert delete_file.sync(file.id, client=client).deleted
missing = retrieve_file.sync_detailed(file.id, client=client)
assert missing.status_code == 404 and isinstance(missing.parsed, ErrorResponse), missing
print("delete")
