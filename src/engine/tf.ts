// The one import of TensorFlow.js: its ops with their gradients. It runs nothing.
import * as tf from '@tensorflow/tfjs';

// Without this the plain `cpu` backend prints a banner that advises another package.
tf.enableProdMode();
// Engines switch to their own backend for as long as they run and come back to this one.
void tf.setBackend('cpu');

export { tf };
