# The official Python client against a live server, with strict validation of every answer: each function is a part of the main job.
# Arguments: what official-python.test.ts knows of the server, as JSON. Prints the name of each part that is done.
import asyncio
import hashlib
import http.server
import json
import os
import sys
import tempfile
import threading
import time

import httpx2 as httpx
import openai

server = json.loads(sys.argv[1])
MODEL = server["model"]
options = dict(base_url=server["url"] + "/v1", api_key=server["key"], _strict_response_validation=True)
client = openai.OpenAI(max_retries=0, **options)
ordinary = openai.OpenAI(**{**options, "_strict_response_validation": False})
admin = openai.OpenAI(admin_api_key=server["adminKey"], max_retries=0, **options).admin.organization
chat = [{"role": "user", "content": "What does the cow say?"}]


def training_lines(count):
    example = {"messages": [*chat, {"role": "assistant", "content": "moo"}]}
    return "".join(json.dumps(example) + "\n" for _ in range(count)).encode()


def fails(kind, call, **fields):
    try:
        call()
    except kind as error:
        assert all(getattr(error, name) == value for name, value in fields.items()), (error.body, fields)
        return error
    raise AssertionError(f"{kind.__name__} expected")


def until(job_id, *statuses):
    for _ in range(1200):
        job = client.fine_tuning.jobs.retrieve(job_id)
        if job.status in statuses:
            return job
        assert job.status not in ("failed", "cancelled"), job.error
        time.sleep(0.1)
    raise AssertionError(f"{job_id} is still {job.status}")


def files_and_uploads():
    content = training_lines(20)
    file = client.files.create(file=("train.jsonl", content), purpose="fine-tune")
    assert client.files.wait_for_processing(file.id).status == "processed"
    assert client.files.content(file.id).content == content
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "parts.jsonl")
        with open(path, "wb") as target:
            target.write(content)
        upload = client.uploads.upload_file_chunked(
            file=path, mime_type="application/jsonl", purpose="fine-tune", part_size=500, md5=hashlib.md5(content).hexdigest()
        )
    assert upload.status == "completed" and client.files.content(upload.file.id).content == content
    memory = client.uploads.upload_file_chunked(
        file=content, filename="m.jsonl", bytes=len(content), mime_type="text/jsonl", purpose="fine-tune"
    )
    cancelled = client.uploads.create(filename="c.jsonl", bytes=5, mime_type="text/plain", purpose="fine-tune")
    assert client.uploads.cancel(cancelled.id).status == "cancelled"
    assert client.files.delete(memory.file.id).deleted
    return file.id, upload.file.id


def main_job(training_file, validation_file):
    created = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=training_file,
        validation_file=validation_file,
        suffix="farm",
        seed=7,
        metadata={"kept": "yes"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 5}}},
    )
    job = until(created.id, "succeeded")
    assert job.fine_tuned_model.startswith(f"ft:{MODEL}:") and job.trained_tokens > 0 and job.error is None
    messages = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=3)]
    assert len(messages) > 12 and messages[-1] == f"Created fine-tuning job: {job.id}", messages
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=1))
    assert [checkpoint.step_number for checkpoint in checkpoints] == [12, 8, 4], checkpoints
    assert client.files.content(job.result_files[0]).text.startswith("step,train_loss,train_accuracy")
    assert client.models.retrieve(job.fine_tuned_model).id in [model.id for model in client.models.list()]
    for model in (job.fine_tuned_model, checkpoints[-1].fine_tuned_model_checkpoint):
        answer = client.chat.completions.create(model=model, messages=chat, max_tokens=3, temperature=0)
        assert answer.usage.completion_tokens <= 3 and answer.model == model
    return job


def other_jobs(training_file):
    """Stopped ones. `paused` is not among OpenAI's statuses: strict validation refuses it, an ordinary client reads it."""
    create = lambda: client.fine_tuning.jobs.create(  # noqa: E731
        model=MODEL, training_file=training_file, metadata={"kept": "no"}, hyperparameters={"n_epochs": 50, "batch_size": 1}
    )
    assert client.fine_tuning.jobs.cancel(create().id).status == "cancelled"
    job = create()
    until(job.id, "queued", "running")
    assert ordinary.fine_tuning.jobs.pause(job.id).status == "paused"
    fails(openai.APIResponseValidationError, lambda: client.fine_tuning.jobs.retrieve(job.id))
    assert client.fine_tuning.jobs.resume(job.id).status in ("queued", "running")
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    fails(openai.BadRequestError, lambda: client.fine_tuning.jobs.cancel(job.id), code="invalid_job_state")


def pagination(job):
    ids = [one.id for one in client.fine_tuning.jobs.list(limit=1)]
    assert len(ids) == 3 and ids[-1] == job.id, ids
    assert [one.id for one in client.fine_tuning.jobs.list(metadata={"kept": "yes"})] == [job.id]
    files = [file.id for file in client.files.list(limit=2, order="asc")]
    assert len(files) > 3 and files == [file.id for file in client.files.list(order="asc")]
    page = client.files.list(limit=1)
    assert page.has_more and page.get_next_page().data[0].id != page.data[0].id


def streaming(model):
    ask = dict(model=model, messages=chat, max_tokens=4, temperature=0)
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **ask))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    whole = client.chat.completions.create(**ask)
    assert text == whole.choices[0].message.content and chunks[-1].usage == whole.usage
    with client.chat.completions.stream(**ask) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
    assert "".join(deltas) == text
    go_on = dict(model=model, prompt="moo", max_tokens=4, temperature=0)
    parts = ordinary.completions.create(stream=True, **go_on)  # `finish_reason` is null until the end, as OpenAI sends it
    said = "".join(part.choices[0].text for part in parts if part.choices)
    assert said == client.completions.create(**go_on).choices[0].text
    with client.responses.stream(model=model, input="moo", max_output_tokens=16, temperature=0) as stream:
        events = list(stream)
    assert events[0].type == "response.created" and events[-1].type in ("response.completed", "response.incomplete")
    final = events[-1].response
    assert client.responses.retrieve(final.id).output_text == final.output_text
    with client.chat.completions.with_streaming_response.create(stream=True, **ask) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")


async def asynchronous(job):
    async with openai.AsyncOpenAI(**options) as client:
        assert (await client.fine_tuning.jobs.retrieve(job.id)).id == job.id
        assert len([event async for event in client.fine_tuning.jobs.list_events(job.id, limit=4)]) > 12
        stream = await client.chat.completions.create(model=MODEL, messages=chat, max_tokens=2, stream=True)
        assert [chunk async for chunk in stream]


def errors():
    jobs = client.fine_tuning.jobs
    wrong = openai.OpenAI(**{**options, "api_key": "sk-wrong"}, max_retries=0)
    fails(openai.AuthenticationError, wrong.models.list, status_code=401, code="invalid_api_key")
    missing = fails(openai.NotFoundError, lambda: client.files.retrieve("file-none"), param="id")
    assert missing.request_id
    fails(openai.NotFoundError, lambda: client.models.retrieve("none"), code="model_not_found")
    fails(openai.NotFoundError, lambda: jobs.create(model=MODEL, training_file="file-none"), param="training_file")
    fails(openai.PermissionDeniedError, lambda: client.models.delete(MODEL), status_code=403)
    body = {"unheard_of": 1}
    fails(openai.BadRequestError, lambda: jobs.create(model=MODEL, training_file="x", extra_body=body), param="unheard_of")
    fails(openai.NotFoundError, lambda: client.images.generate(prompt="cow"), code="not_served")


class Failing(httpx.HTTPTransport):
    """Loses the first requests, and counts those that arrive."""

    lost, seen = 0, 0

    def handle_request(self, request):
        if self.lost > 0:
            self.lost -= 1
            raise httpx.ConnectError("lost", request=request)
        self.seen += 1
        return super().handle_request(request)


def retries():
    transport = Failing()
    patient = openai.OpenAI(http_client=openai.DefaultHttpxClient(transport=transport), **options)
    transport.lost = 2
    assert patient.models.list().data and transport.seen == 1
    key = {"Idempotency-Key": "twice"}
    first = patient.uploads.create(filename="a.jsonl", bytes=5, mime_type="a/b", purpose="fine-tune", extra_headers=key)
    again = patient.uploads.create(filename="a.jsonl", bytes=5, mime_type="a/b", purpose="fine-tune", extra_headers=key)
    assert first.id == again.id
    transport.seen = 0
    other = lambda: patient.uploads.create(  # noqa: E731
        filename="b.jsonl", bytes=5, mime_type="a/b", purpose="fine-tune", extra_headers=key
    )
    fails(openai.ConflictError, other, code="idempotency_key_reused")
    fails(openai.BadRequestError, lambda: patient.files.list(limit=-1))
    assert transport.seen == 2, "refusals are not tried again"

    limits = admin.projects.rate_limits
    limit = next(one for one in limits.list_rate_limits(server["projectId"]) if one.model == MODEL)
    change = lambda count: limits.update_rate_limit(  # noqa: E731
        limit.id, project_id=server["projectId"], max_requests_per_1_minute=count
    )
    change(60)
    answer = lambda asker: asker.chat.completions.with_raw_response.create(model=MODEL, messages=chat, max_tokens=1)  # noqa: E731
    refused = None
    for _ in range(200):
        try:
            answer(client)
        except openai.RateLimitError as error:
            refused = error
            break
    assert refused and 0 < float(refused.response.headers["retry-after"]) <= 2 and refused.code == "rate_limit_exceeded"
    transport.seen = 0
    assert answer(patient).parse().choices and transport.seen >= 1
    change(limit.max_requests_per_1_minute)


class Receiver(http.server.BaseHTTPRequestHandler):
    received = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append((body, dict(self.headers)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def webhooks(training_file):
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    endpoint = client.webhooks.create(
        name="python", url=f"http://127.0.0.1:{receiver.server_port}/", event_types=["fine_tuning.job.cancelled"]
    )
    assert endpoint.id in [one.id for one in client.webhooks.list(limit=1)]
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training_file)
    client.fine_tuning.jobs.cancel(job.id)
    for _ in range(600):
        if Receiver.received:
            break
        time.sleep(0.1)
    body, headers = Receiver.received[0]
    event = client.webhooks.unwrap(body, headers, secret=endpoint.signing_secret)
    assert event.type == "fine_tuning.job.cancelled" and event.data.id == job.id
    fails(openai.InvalidWebhookSignatureError, lambda: client.webhooks.unwrap(body + b" ", headers, secret=endpoint.signing_secret))
    rotated = client.webhooks.rotate_secret(endpoint.id, keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret != endpoint.signing_secret
    assert client.webhooks.test(endpoint.id, event_type="fine_tuning.job.cancelled").status_code == 200
    body, headers = Receiver.received[-1]
    for secret in (rotated.signing_secret, endpoint.signing_secret):
        client.webhooks.unwrap(body, headers, secret=secret)
    assert client.webhooks.delete(endpoint.id).deleted
    receiver.shutdown()


def run():
    training_file, validation_file = files_and_uploads()
    print("files and uploads")
    job = main_job(training_file, validation_file)
    print("main job")
    other_jobs(training_file)
    print("other jobs")
    pagination(job)
    print("pagination")
    streaming(job.fine_tuned_model)
    print("streaming")
    asyncio.run(asynchronous(job))
    print("asynchronous")
    errors()
    print("errors")
    webhooks(training_file)
    print("webhooks")
    retries()
    print("retries")


run()
