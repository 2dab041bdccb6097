// The only import of ONNX Runtime. Since 1.29 its published builds send telemetry about models and sessions unless
// disabled before loading (https://github.com/microsoft/onnxruntime/pull/27379); here it is disabled.
process.env.ORT_DISABLE_TELEMETRY = '1';

export const { InferenceSession, Tensor } = await import('onnxruntime-node');
