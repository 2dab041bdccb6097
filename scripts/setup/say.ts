// Progress messages of the setup scripts, on stderr.
export const say = (text: string): void => void process.stderr.write(`anneal: ${text}\n`);
