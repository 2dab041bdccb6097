// OpenTelemetry: a span for each run of a training job, and the duration of its steps.
import { metrics, SpanKind, trace } from '@opentelemetry/api';
import type { TrainingMetrics } from './worker-metrics.ts';

export function openTrainingSpans(): TrainingMetrics {
  const tracer = trace.getTracer('anneal');
  const meter = metrics.getMeter('anneal');
  const seconds = meter.createHistogram('anneal.training.step.duration', { unit: 's' });
  return {
    async *follow(events, { jobId, attempt }) {
      const attributes = { 'anneal.job.id': jobId, 'anneal.job.attempt': attempt };
      const span = tracer.startSpan('training run', { kind: SpanKind.CONSUMER, attributes });
      let steps = 0;
      try {
        for await (const batch of events) {
          for (const event of batch) {
            if (event.type === 'checkpoint') span.addEvent('checkpoint', { step: event.step });
            if (event.type !== 'step') continue;
            seconds.record(event.seconds);
            steps++;
          }
          yield batch;
        }
      } finally {
        span.setAttribute('anneal.steps', steps);
        span.end();
      }
    },
    ended: () => undefined,
  };
}
