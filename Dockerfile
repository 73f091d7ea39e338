# Two stages: the first builds, the second holds the server and what it needs to run, and nothing secret.
FROM node:20-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
RUN node scripts/build.mjs

FROM node:20-bookworm-slim
ENV NODE_ENV=production PARLEY_HOST=0.0.0.0 PARLEY_DATA_DIR=/data
WORKDIR /app
COPY package.json package-lock.json ./
# The server was built above: no script of the package is run, only those that fetch the binary of LMDB.
RUN npm pkg delete scripts.prepare && npm ci --omit=dev --no-audit --no-fund && npm cache clean --force \
  && mkdir /data && chown node:node /data && chmod 700 /data
COPY --from=build /app/build ./build
COPY topics.md LICENSE ./
COPY docs ./docs
USER node
VOLUME /data
EXPOSE 1883 8080 8883
# Liveness, not readiness: a node whose store is away must not be restarted for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:'+(process.env.PARLEY_HTTP_PORT||8080)+'/healthz').then(r=>process.exit(r.ok?0:1),()=>process.exit(1))"]
STOPSIGNAL SIGTERM
CMD ["node", "--max-semi-space-size=64", "build/broker/cli.js", "start"]
