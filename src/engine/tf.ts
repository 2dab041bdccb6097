// The one import of TensorFlow.js: its ops with their gradients. It runs nothing.
import * as tf from '@tensorflow/tfjs';

// Otherwise the plain `cpu` backend prints a banner that advertises another package.
tf.enableProdMode();
// Engines switch to their own backend while they run, then back to this one.
void tf.setBackend('cpu');

export { tf };
