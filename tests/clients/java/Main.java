// The main job with the client that openapi-generator makes of openapi/openapi.json. Prints each part that is done.
import anneal.ApiClient;
import anneal.ApiException;
import anneal.api.*;
import anneal.model.*;
import java.nio.file.*;
import java.util.List;
import java.util.Map;

public class Main {
    static final String QUESTION = "What does the cow say?";
    static final String LINE = "{\"messages\":[{\"role\":\"user\",\"content\":\"" + QUESTION
            + "\"},{\"role\":\"assistant\",\"content\":\"moo\"}]}\n";

    public static void main(String[] args) throws Exception {
        ApiClient client = new ApiClient().setBasePath(args[0]);
        client.setBearerToken(args[1]);
        FilesApi files = new FilesApi(client);
        FineTuningApi fineTuning = new FineTuningApi(client);
        ModelsApi models = new ModelsApi(client);

        Path lines = Files.createTempFile("train", ".jsonl");
        Files.writeString(lines, LINE.repeat(12));
        OpenAIFile file = files.createFile(lines.toFile(), "fine-tune", null, null, null);
        Files.delete(lines);
        System.out.println("upload");

        FineTuningJob job = train(fineTuning, args[2], file.getId());
        System.out.println("job");
        // This generator writes the keys of a map as they are.
        Map<String, String> wanted = Map.of("metadata[team]", "java");
        System.out.println("found " + fineTuning.listPaginatedFineTuningJobs(null, null, wanted).getData().size());
        require(!fineTuning.listFineTuningEvents(job.getId(), null, null, null).getData().isEmpty(), "events");
        System.out.println("events");
        System.out.println("checkpoints " + countCheckpoints(fineTuning, job.getId()));

        String tuned = job.getFineTunedModel();
        require(models.listModels().getData().stream().anyMatch(m -> m.getId().equals(tuned)), "the model in the list");
        System.out.println("models");
        ChatCompletionMessage message = new ChatCompletionMessage()
                .role(ChatCompletionMessage.RoleEnum.USER)
                .content(new ChatCompletionMessageContent(QUESTION));
        ChatCompletion answer = new ChatApi(client).createChatCompletion(
                new CreateChatCompletionRequest().model(tuned).messages(List.of(message)).maxCompletionTokens(4), null);
        require(answer.getChoices().size() == 1, "an answer");
        System.out.println("chat");

        require(models.deleteModel(tuned).getDeleted(), "a deleted model");
        files.deleteFile(file.getId());
        try {
            files.retrieveFile(file.getId());
            throw new AssertionError("expected: a 404");
        } catch (ApiException error) {
            require(error.getCode() == 404 && error.getResponseBody().contains("invalid_request_error"), "a 404");
        }
        System.out.println("delete");
    }

    static FineTuningJob train(FineTuningApi api, String model, String file) throws Exception {
        CreateFineTuningJobRequest request = new CreateFineTuningJobRequest()
                .model(model)
                .trainingFile(file)
                .metadata(Map.of("team", "java"))
                .hyperparameters(new Hyperparameters().nEpochs(new HyperparametersNEpochs(2)));
        FineTuningJob job = api.createFineTuningJob(request, null, null).getFineTuningJob();
        while (job.getStatus() != FineTuningJob.StatusEnum.SUCCEEDED) {
            require(job.getStatus() != FineTuningJob.StatusEnum.FAILED, "a job that does not fail");
            Thread.sleep(100);
            job = api.retrieveFineTuningJob(job.getId());
        }
        return job;
    }

    static int countCheckpoints(FineTuningApi api, String job) throws ApiException {
        int count = 0;
        String after = null;
        while (true) {
            ListFineTuningJobCheckpointsResponse page = api.listFineTuningJobCheckpoints(job, after, 1);
            count += page.getData().size();
            if (!page.getHasMore()) return count;
            after = page.getLastId();
        }
    }

    static void require(boolean holds, String what) {
        if (!holds) throw new AssertionError("expected: " + what);
    }
}
