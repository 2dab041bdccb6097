// The one import of ONNX Runtime. Since 1.29 its published builds report models and sessions to their maker unless told not to before
// they start (https://github.com/microsoft/onnxruntime/pull/27379): here nothing about anybody's models leaves the machine.
process.env.ORT_DISABLE_TELEMETRY = '1';

export const { InferenceSession, Tensor } = await import('onnxruntime-node');
