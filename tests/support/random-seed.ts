// Fixes the seed of fast-check, so that CI results do not depend on chance. FAST_CHECK_SEED=<number> sets another one.
import fc from 'fast-check';

fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(process.env.FAST_CHECK_SEED ?? 1) });
