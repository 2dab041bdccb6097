// API schemas of the checkpoints of a job.
import { type Static, Type } from 'typebox';
import type { Checkpoint } from '../store/checkpoints.ts';
import { After, Limit, ListOf, unixSeconds, type WithDefaults } from './lists.ts';
import { measuredNames } from './metrics.ts';

const metricNames = ['step', ...measuredNames];

export const FineTuningJobCheckpoint = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('fine_tuning.job.checkpoint'),
    created_at: Type.Integer(),
    fine_tuned_model_checkpoint: Type.String({ description: 'Name of the checkpoint as a model.' }),
    fine_tuning_job_id: Type.String(),
    step_number: Type.Integer(),
    metrics: Type.Object(Object.fromEntries(metricNames.map(name => [name, Type.Optional(Type.Number())]))),
  },
  { $id: 'FineTuningJobCheckpoint', description: 'The model at the end of an epoch.' },
);

export const ListCheckpointsQuery = Type.Object({ after: After, limit: Limit(10, 100) });
export type ListCheckpointsQuery = WithDefaults<Static<typeof ListCheckpointsQuery>, 'limit'>;

export const ListFineTuningJobCheckpointsResponse = ListOf(
  'ListFineTuningJobCheckpointsResponse',
  Type.Ref('FineTuningJobCheckpoint'),
  'A page of checkpoints, newest first.',
);

export function checkpointToWire(checkpoint: Checkpoint) {
  const known = metricNames.filter(name => typeof checkpoint.metrics[name] === 'number');
  return {
    object: 'fine_tuning.job.checkpoint' as const,
    id: checkpoint.id,
    created_at: unixSeconds(checkpoint.createdAt),
    fine_tuned_model_checkpoint: checkpoint.model,
    fine_tuning_job_id: checkpoint.jobId,
    step_number: checkpoint.step,
    metrics: Object.fromEntries(known.map(name => [name, checkpoint.metrics[name]])),
  };
}

export const exampleCheckpoint = {
  object: 'fine_tuning.job.checkpoint',
  id: 'ftckpt_Abc123Abc123Abc123Abc123',
  created_at: 1_780_000_000,
  fine_tuned_model_checkpoint: 'ft:anneal-tiny:personal:tickets:a1B2c3D4:ckpt-step-30',
  fine_tuning_job_id: 'ftjob-Abc123Abc123Abc123Abc123',
  step_number: 30,
  metrics: { step: 30, train_loss: 0.62, full_valid_loss: 0.71, full_valid_mean_token_accuracy: 0.83 },
};
