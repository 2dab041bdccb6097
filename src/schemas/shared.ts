// The schemas that have a name of their own in the OpenAPI document.
import type { TSchema } from 'typebox';
import { FineTuningJobCheckpoint, ListFineTuningJobCheckpointsResponse } from './checkpoints.ts';
import { ErrorResponse } from './errors.ts';
import { FineTuningJobEvent, ListFineTuningJobEventsResponse } from './events.ts';
import { CreateFileRequest, DeleteFileResponse, ListFilesResponse, OpenAIFile } from './files.ts';
import { Health, Readiness } from './health.ts';
import {
  CreateFineTuningJobRequest,
  FineTuningJob,
  Hyperparameters,
  ListFineTuningJobsResponse,
  SupervisedHyperparameters,
} from './jobs.ts';
import { DeleteModelResponse, ListModelsResponse, Model } from './models.ts';

export const sharedSchemas: readonly TSchema[] = [
  ErrorResponse,
  OpenAIFile,
  CreateFileRequest,
  ListFilesResponse,
  DeleteFileResponse,
  Hyperparameters,
  SupervisedHyperparameters,
  CreateFineTuningJobRequest,
  FineTuningJob,
  ListFineTuningJobsResponse,
  FineTuningJobEvent,
  ListFineTuningJobEventsResponse,
  FineTuningJobCheckpoint,
  ListFineTuningJobCheckpointsResponse,
  Model,
  ListModelsResponse,
  DeleteModelResponse,
  Health,
  Readiness,
];
