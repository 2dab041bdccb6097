// Runs a model's forward pass on one token with zeros for weights and tells each layer's attention window.
import type { Tensors } from '../../src/engine/program.ts';
import { tf } from '../../src/engine/tf.ts';
import type { Model } from '../../src/models/registry.ts';

export function recordWindows(model: Model, record: (window: number | null) => void): void {
  void tf.setBackend('cpu');
  tf.tidy(() => {
    const weights: Tensors = Object.fromEntries(
      Object.entries(model.weights).map(([name, { shape }]) => [name, tf.zeros([...shape])]),
    );
    const layers = new Map(model.linearLayers.map(layer => [layer.name, layer]));
    const one = tf.tensor2d([[0]], [1, 1], 'int32');
    model.hidden(one, one, {
      weight: name => weights[name]!,
      linear: (name, x) => tf.zeros([...x.shape.slice(0, -1), layers.get(name)!.outFeatures]),
      attend({ query, window }) {
        record(window);
        return query;
      },
    });
  });
}
