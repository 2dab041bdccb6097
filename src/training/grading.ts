// How the trainer gets answers graded: it asks its parent process and waits. The worker knows what a grade is made of.
import type { GradeAnswers, GradedAnswer, TrainerQuestion, WorkerAnswer } from './protocol.ts';

export interface Grading {
  grade: GradeAnswers;
  hear(answer: WorkerAnswer): void;
}

export function openGrading(ask: (question: TrainerQuestion) => Promise<void>): Grading {
  const waiting = new Map<number, (grades: GradedAnswer[]) => void>();
  let asked = 0;
  return {
    async grade(answers) {
      const question = ++asked;
      const { promise, resolve } = Promise.withResolvers<GradedAnswer[]>();
      waiting.set(question, resolve);
      await ask({ type: 'grade', question, answers });
      return promise;
    },
    hear({ question, grades }) {
      waiting.get(question)?.(grades);
      waiting.delete(question);
    },
  };
}
