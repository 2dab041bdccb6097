// A run that ends because of what the user gave: the job's error, in OpenAI's shape. A bug is never one of these.
export class TrainingFailure extends Error {
  readonly code: string;
  readonly param: string | null;

  constructor(code: string, param: string | null, message: string) {
    super(message);
    this.name = 'TrainingFailure';
    this.code = code;
    this.param = param;
  }
}
