// The one import of TensorFlow.js: its ops with their gradients. It picks no backend and runs nothing.
import * as tf from '@tensorflow/tfjs';

// Without this the plain `cpu` backend prints a banner that advises another package.
tf.enableProdMode();

export { tf };
