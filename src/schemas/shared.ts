// The schemas that have a name of their own in the OpenAPI document.
import type { TSchema } from 'typebox';
import {
  AdminApiKey,
  AdminApiKeyCreateResponse,
  AdminApiKeyDeleteResponse,
  AdminApiKeyListResponse,
  CreateAdminApiKeyRequest,
} from './admin-keys.ts';
import { FunctionTool, ResponseFormat } from './answer-forms.ts';
import { AuditLog, ListAuditLogsResponse } from './audit-logs.ts';
import { Batch, CreateBatchRequest, ListBatchesResponse } from './batches.ts';
import {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionMessage,
  ChatCompletionTokenLogprob,
  CreateChatCompletionRequest,
} from './chat-completions.ts';
import { FineTuningJobCheckpoint, ListFineTuningJobCheckpointsResponse } from './checkpoints.ts';
import {
  Classification,
  CreateClassificationRequest,
  CreateClassificationResponse,
} from './classifications.ts';
import { Completion, CreateCompletionRequest } from './completions.ts';
import { CostsResult } from './costs.ts';
import { DryRunFile, DryRunRunner, DuplicateLines, FineTuningDryRun } from './dry-runs.ts';
import { CreateEmbeddingRequest, CreateEmbeddingResponse, Embedding } from './embeddings.ts';
import { ErrorResponse } from './errors.ts';
import {
  CreateEvalRunRequest,
  DeleteEvalRunResponse,
  EvalRunOutputItem,
  EvalRunSchema,
  ListEvalRunOutputItemsResponse,
  ListEvalRunsResponse,
} from './eval-runs.ts';
import {
  CreateEvalRequest,
  DeleteEvalResponse,
  EvalSchema,
  ListEvalsResponse,
  UpdateEvalRequest,
} from './evals.ts';
import { FineTuningJobEvent, ListFineTuningJobEventsResponse } from './events.ts';
import { CreateFileRequest, DeleteFileResponse, ListFilesResponse, OpenAIFile } from './files.ts';
import { CompletionUsage } from './generation.ts';
import {
  EvalItem,
  Grader,
  GraderScoreModelSamplingParams,
  GradersByName,
  RunGraderRequest,
  RunGraderResponse,
  TestingCriterion,
  ValidateGraderRequest,
  ValidateGraderResponse,
} from './graders.ts';
import { Health, Readiness } from './health.ts';
import {
  ClassWeights,
  CreateFineTuningJobRequest,
  DpoHyperparameters,
  FineTuningJob,
  Hyperparameters,
  ListFineTuningJobsResponse,
  ReinforcementHyperparameters,
  SupervisedHyperparameters,
  WandbIntegration,
} from './jobs.ts';
import { FineTuningJobMetrics, ListFineTuningJobMetricsResponse } from './metrics.ts';
import { ModelExport } from './model-exports.ts';
import { DeleteModelResponse, ListModelsResponse, Model } from './models.ts';
import { CreateModerationRequest, CreateModerationResponse } from './moderations.ts';
import {
  CreateFineTuningCheckpointPermissionRequest,
  DeleteFineTuningCheckpointPermissionResponse,
  FineTuningCheckpointPermission,
  ListFineTuningCheckpointPermissionResponse,
} from './permissions.ts';
import {
  ProjectApiKey,
  ProjectApiKeyDeleteResponse,
  ProjectApiKeyListResponse,
  UpdateProjectApiKeyRequest,
} from './project-keys.ts';
import { CreateProjectRequest, ModifyProjectRequest, Project, ProjectListResponse } from './projects.ts';
import { ProjectQuotas, UpdateProjectQuotasRequest } from './quotas.ts';
import {
  ProjectRateLimit,
  ProjectRateLimitListResponse,
  ProjectRateLimitUpdateRequest,
} from './rate-limits.ts';
import {
  ResponseFunctionCall,
  ResponseInputItem,
  ResponseItem,
  ResponseOutputMessage,
} from './response-items.ts';
import {
  CreateResponseRequest,
  DeleteResponseResponse,
  ListResponseItemsResponse,
  ResponseSchema,
  ResponseStreamEvent,
  ResponseUsage,
} from './responses.ts';
import { OrganizationRunner, OrganizationRunnerList } from './runners.ts';
import {
  CreateProjectServiceAccountRequest,
  CreateServiceAccountApiKeyRequest,
  ProjectServiceAccount,
  ProjectServiceAccountApiKey,
  ProjectServiceAccountCreateResponse,
  ProjectServiceAccountDeleteResponse,
  ProjectServiceAccountListResponse,
  UpdateProjectServiceAccountRequest,
} from './service-accounts.ts';
import {
  DeleteChatCompletionResponse,
  ListChatCompletionsResponse,
  ListChatMessagesResponse,
  StoredChatMessage,
  UpdateChatCompletionRequest,
} from './stored-completions.ts';
import { UsageResponse, UsageTimeBucket } from './time-buckets.ts';
import {
  AddUploadPartRequest,
  CompleteUploadRequest,
  CreateUploadRequest,
  Upload,
  UploadPart,
} from './uploads.ts';
import { UsageCompletionsResult, UsageEmbeddingsResult, UsageFineTuningResult } from './usage.ts';
import {
  CreateWebhookEndpointRequest,
  DeletedWebhookEndpoint,
  ListWebhookDeliveriesResponse,
  ListWebhookEndpointsResponse,
  RotateWebhookSecretRequest,
  TestWebhookEndpointRequest,
  UpdateWebhookEndpointRequest,
  WebhookDelivery,
  WebhookEndpoint,
  WebhookEndpointTest,
  WebhookEndpointWithSecret,
  WebhookEventTypeList,
} from './webhooks.ts';

export const sharedSchemas: readonly TSchema[] = [
  Project,
  CreateProjectRequest,
  ModifyProjectRequest,
  ProjectListResponse,
  ProjectApiKey,
  UpdateProjectApiKeyRequest,
  ProjectApiKeyListResponse,
  ProjectApiKeyDeleteResponse,
  ProjectServiceAccount,
  ProjectServiceAccountApiKey,
  ProjectServiceAccountCreateResponse,
  CreateProjectServiceAccountRequest,
  UpdateProjectServiceAccountRequest,
  CreateServiceAccountApiKeyRequest,
  ProjectServiceAccountListResponse,
  ProjectServiceAccountDeleteResponse,
  AdminApiKey,
  AdminApiKeyCreateResponse,
  CreateAdminApiKeyRequest,
  AdminApiKeyListResponse,
  AdminApiKeyDeleteResponse,
  AuditLog,
  ListAuditLogsResponse,
  UsageCompletionsResult,
  UsageEmbeddingsResult,
  UsageFineTuningResult,
  CostsResult,
  UsageTimeBucket,
  UsageResponse,
  ProjectRateLimit,
  ProjectRateLimitListResponse,
  ProjectRateLimitUpdateRequest,
  ProjectQuotas,
  UpdateProjectQuotasRequest,
  OrganizationRunner,
  OrganizationRunnerList,
  ErrorResponse,
  OpenAIFile,
  CreateFileRequest,
  ListFilesResponse,
  DeleteFileResponse,
  CreateUploadRequest,
  AddUploadPartRequest,
  CompleteUploadRequest,
  Upload,
  UploadPart,
  Hyperparameters,
  SupervisedHyperparameters,
  DpoHyperparameters,
  ClassWeights,
  ReinforcementHyperparameters,
  WandbIntegration,
  CreateFineTuningJobRequest,
  FineTuningJob,
  ListFineTuningJobsResponse,
  DuplicateLines,
  DryRunFile,
  DryRunRunner,
  FineTuningDryRun,
  FineTuningJobEvent,
  ListFineTuningJobEventsResponse,
  FineTuningJobCheckpoint,
  ListFineTuningJobCheckpointsResponse,
  FineTuningJobMetrics,
  ListFineTuningJobMetricsResponse,
  CreateFineTuningCheckpointPermissionRequest,
  FineTuningCheckpointPermission,
  ListFineTuningCheckpointPermissionResponse,
  DeleteFineTuningCheckpointPermissionResponse,
  Model,
  ListModelsResponse,
  DeleteModelResponse,
  ModelExport,
  ChatCompletionMessage,
  FunctionTool,
  ResponseFormat,
  CreateChatCompletionRequest,
  ChatCompletionTokenLogprob,
  CompletionUsage,
  ChatCompletion,
  ChatCompletionChunk,
  UpdateChatCompletionRequest,
  ListChatCompletionsResponse,
  StoredChatMessage,
  ListChatMessagesResponse,
  DeleteChatCompletionResponse,
  ResponseInputItem,
  ResponseOutputMessage,
  ResponseFunctionCall,
  ResponseItem,
  ResponseUsage,
  CreateResponseRequest,
  ResponseSchema,
  ResponseStreamEvent,
  ListResponseItemsResponse,
  DeleteResponseResponse,
  CreateCompletionRequest,
  Completion,
  CreateClassificationRequest,
  Classification,
  CreateClassificationResponse,
  CreateEmbeddingRequest,
  Embedding,
  CreateEmbeddingResponse,
  EvalItem,
  GraderScoreModelSamplingParams,
  GradersByName,
  Grader,
  TestingCriterion,
  RunGraderRequest,
  RunGraderResponse,
  ValidateGraderRequest,
  ValidateGraderResponse,
  CreateEvalRequest,
  UpdateEvalRequest,
  EvalSchema,
  ListEvalsResponse,
  DeleteEvalResponse,
  CreateEvalRunRequest,
  EvalRunSchema,
  ListEvalRunsResponse,
  DeleteEvalRunResponse,
  EvalRunOutputItem,
  ListEvalRunOutputItemsResponse,
  Health,
  Readiness,
  CreateWebhookEndpointRequest,
  UpdateWebhookEndpointRequest,
  RotateWebhookSecretRequest,
  TestWebhookEndpointRequest,
  WebhookEndpoint,
  WebhookEndpointWithSecret,
  DeletedWebhookEndpoint,
  WebhookEndpointTest,
  WebhookEventTypeList,
  WebhookDelivery,
  ListWebhookEndpointsResponse,
  ListWebhookDeliveriesResponse,
  Batch,
  CreateBatchRequest,
  ListBatchesResponse,
  CreateModerationRequest,
  CreateModerationResponse,
];
