# Debian's nginx with its stream module, as deploy/nginx.conf is tested with. The configuration and certificates are mounted.
FROM debian:bookworm-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx libnginx-mod-stream && rm -rf /var/lib/apt/lists/*
CMD ["nginx", "-c", "/etc/parley/nginx.conf", "-g", "daemon off;"]
