# syntax=docker/dockerfile:1

# Zero configuration:   docker run -p 8080:8080 -v remora:/var/lib/remora remora
# With a file:          … -v ./remora.toml:/etc/remora/remora.toml:ro remora serve --config /etc/remora/remora.toml

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The toolchain of the image, instead of whatever rust-toolchain.toml would have fetched.
ENV RUSTUP_TOOLCHAIN=1.95
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin remora && cp target/release/remora /remora

# The program needs glibc and nothing else: SQLite and the certificate authorities are compiled in.
FROM debian:bookworm-slim
RUN groupadd --system --gid 10001 remora \
 && useradd --system --uid 10001 --gid remora --home-dir /var/lib/remora --shell /usr/sbin/nologin remora \
 && install -d -o remora -g remora -m 0700 /var/lib/remora
COPY --from=build /remora /usr/local/bin/remora
COPY LICENSE /usr/share/doc/remora/LICENSE
USER 10001:10001
WORKDIR /var/lib/remora

# Inside a container the data plane must listen on every interface to be reached at all. The admin plane stays on the
# container's own loopback, where it needs no token. To publish it, give it a token:
#   -e REMORA__ADMIN__LISTEN=0.0.0.0:8081 -e REMORA__ADMIN__TOKEN_ENV=REMORA_ADMIN_TOKEN -e REMORA_ADMIN_TOKEN=…
# The REM sidecar stays there, too; every caller of it needs a key. To publish it: -e REMORA__REM__LISTEN=0.0.0.0:8082
ENV REMORA__SERVER__LISTEN=0.0.0.0:8080
ENV REMORA__STORE__URL=sqlite:///var/lib/remora/remora.db

# The database and the key file that belongs to it. Back up both.
VOLUME /var/lib/remora
EXPOSE 8080 8081 8082
# There is no HEALTHCHECK: the image has no HTTP client. Probe /readyz of the admin plane from the orchestrator.
# SIGTERM drains for up to server.drain (120 s): stop with `docker stop --time 130`, or lower the drain.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/remora"]
CMD ["serve"]
