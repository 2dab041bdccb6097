// Random inputs of the tests are the same at every run: what CI says must not depend on luck. FAST_CHECK_SEED=<number> takes others.
import fc from 'fast-check';

fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(process.env.FAST_CHECK_SEED ?? 1) });
