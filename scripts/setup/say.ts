// What the set-up scripts say while they work, on the error output.
export const say = (text: string): void => void process.stderr.write(`anneal: ${text}\n`);
