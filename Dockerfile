FROM rust:1-slim-bookworm AS builder
WORKDIR /build
# The dependencies first: as long as they stay the same, this layer comes from the cache.
COPY Cargo.toml Cargo.lock ./
COPY benches benches
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked \
    && rm -r src
COPY src src
# `lowtide init` writes this file; it is part of the binary.
COPY alerts.example.yaml ./
# Newer than the placeholders, whatever the files' own times are.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 lowtide \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/lowtide --shell /usr/sbin/nologin lowtide \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/lowtide \
    && install -d -m 0755 /etc/lowtide
COPY --from=builder /build/target/release/lowtide /usr/local/bin/lowtide
ENV LOWTIDE_CONFIG=/etc/lowtide/alerts.yaml \
    STATE_DIRECTORY=/var/lib/lowtide
WORKDIR /var/lib/lowtide
VOLUME /var/lib/lowtide
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=10s --start-period=30s --retries=3 CMD ["lowtide", "health"]
# Exec form: signals reach the program itself.
ENTRYPOINT ["lowtide"]
CMD ["run"]
