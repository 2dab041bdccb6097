// The main job with the client that oapi-codegen makes of openapi/openapi.json. Prints each part that is done.
package main

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"time"

	"example.com/client/anneal"
)

const question = "What does the cow say?"
const line = `{"messages":[{"role":"user","content":"` + question + `"},{"role":"assistant","content":"moo"}]}` + "\n"

var ctx = context.Background()
var team = map[string]string{"team": "go"}

func main() {
	url, key, model := os.Args[1], os.Args[2], os.Args[3]
	client, err := anneal.NewClientWithResponses(url, anneal.WithRequestEditorFn(
		func(_ context.Context, request *http.Request) error {
			request.Header.Set("Authorization", "Bearer "+key)
			return nil
		}))
	check(err)

	file := upload(client)
	fmt.Println("upload")
	job := train(client, model, file.Id)
	fmt.Println("job")
	jobs, err := client.ListPaginatedFineTuningJobsWithResponse(ctx, &anneal.ListPaginatedFineTuningJobsParams{Metadata: &team})
	check(err)
	require(jobs.JSON200 != nil, string(jobs.Body))
	fmt.Println("found", len(jobs.JSON200.Data))

	events, err := client.ListFineTuningEventsWithResponse(ctx, job.Id, nil)
	check(err)
	require(len(events.JSON200.Data) > 0, "events")
	fmt.Println("events")
	fmt.Println("checkpoints", countCheckpoints(client, job.Id))

	models, err := client.ListModelsWithResponse(ctx)
	check(err)
	found := false
	for _, model := range models.JSON200.Data {
		found = found || model.Id == *job.FineTunedModel
	}
	require(found, "the model in the list")
	fmt.Println("models")
	chat(client, *job.FineTunedModel)
	fmt.Println("chat")

	deleted, err := client.DeleteModelWithResponse(ctx, *job.FineTunedModel)
	check(err)
	require(deleted.JSON200 != nil && deleted.JSON200.Deleted, "a deleted model")
	_, err = client.DeleteFileWithResponse(ctx, file.Id)
	check(err)
	missing, err := client.RetrieveFileWithResponse(ctx, file.Id)
	check(err)
	require(missing.JSON404 != nil && missing.JSON404.Error.Type == "invalid_request_error", "a 404")
	fmt.Println("delete")
}

func upload(client *anneal.ClientWithResponses) *anneal.OpenAIFile {
	var form bytes.Buffer
	writer := multipart.NewWriter(&form)
	check(writer.WriteField("purpose", "fine-tune"))
	part, err := writer.CreateFormFile("file", "train.jsonl")
	check(err)
	_, err = part.Write([]byte(strings.Repeat(line, 12)))
	check(err)
	check(writer.Close())
	answer, err := client.CreateFileWithBodyWithResponse(ctx, nil, writer.FormDataContentType(), &form)
	check(err)
	require(answer.JSON200 != nil, string(answer.Body))
	return answer.JSON200
}

func train(client *anneal.ClientWithResponses, model, file string) *anneal.FineTuningJob {
	var epochs anneal.Hyperparameters_NEpochs
	check(epochs.FromHyperparametersNEpochs1(2))
	made, err := client.CreateFineTuningJobWithResponse(ctx, nil, anneal.CreateFineTuningJobRequest{
		Model:           model,
		TrainingFile:    file,
		Hyperparameters: &anneal.Hyperparameters{NEpochs: &epochs},
		Metadata:        &team,
	})
	check(err)
	require(made.JSON200 != nil, string(made.Body))
	job, err := made.JSON200.AsFineTuningJob()
	check(err)
	for job.Status != anneal.FineTuningJobStatusSucceeded {
		require(job.Status != anneal.FineTuningJobStatusFailed, "a job that does not fail")
		time.Sleep(100 * time.Millisecond)
		now, err := client.RetrieveFineTuningJobWithResponse(ctx, job.Id)
		check(err)
		job = *now.JSON200
	}
	return &job
}

func countCheckpoints(client *anneal.ClientWithResponses, job string) int {
	limit, count := 1, 0
	params := &anneal.ListFineTuningJobCheckpointsParams{Limit: &limit}
	for {
		page, err := client.ListFineTuningJobCheckpointsWithResponse(ctx, job, params)
		check(err)
		count += len(page.JSON200.Data)
		if !page.JSON200.HasMore {
			return count
		}
		params.After = page.JSON200.LastId
	}
}

func chat(client *anneal.ClientWithResponses, model string) {
	var content anneal.ChatCompletionMessage_Content
	check(content.FromChatCompletionMessageContent0(question))
	limit := 4
	answer, err := client.CreateChatCompletionWithResponse(ctx, nil, anneal.CreateChatCompletionRequest{
		Model:               model,
		Messages:            []anneal.ChatCompletionMessage{{Role: anneal.ChatCompletionMessageRoleUser, Content: &content}},
		MaxCompletionTokens: &limit,
	})
	check(err)
	require(answer.JSON200 != nil && answer.JSON200.Choices[0].Message.Role == "assistant", string(answer.Body))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func require(holds bool, what string) {
	if !holds {
		log.Fatal("expected: ", what)
	}
}
