# Two images of one project: `init` programs the kernel and ends, `proxy` carries the traffic.
#   docker build --target proxy --tag tproxy:0.1.0 .
#   docker build --target init --tag tproxy-init:0.1.0 .
# `make images` does both, also without a network.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_CACHE_DIR=1 SOURCE_DATE_EPOCH=0
COPY deploy/images/install deploy/images/*.lock /build/
COPY deploy/images/wheels /build/wheels
RUN /build/install tools

FROM build AS build-proxy
COPY pyproject.toml README.md LICENSE /build/source/
COPY tproxy /build/source/tproxy
COPY init-container/tproxy_init /build/source/init-container/tproxy_init
RUN /build/install proxy

FROM build AS build-init
COPY init-container /build/source
RUN /build/install init

FROM base AS init
# iptables for the libraries and extensions that python-iptables loads, nft for kernels without legacy tables.
RUN command -v nft >/dev/null && command -v iptables >/dev/null \
    || { apt-get update -qq && apt-get install -qq -y --no-install-recommends iptables nftables \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* ; }
COPY --from=build-init /opt/tproxy /opt/tproxy
ENV PATH=/opt/tproxy/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tproxy-init" \
    org.opencontainers.image.description="Programs the kernel so that a pod's TCP passes its sidecar" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["tproxy-init"]
CMD ["apply"]

FROM base AS proxy
RUN echo 'tproxy:x:1337:1337:sidecar:/nonexistent:/usr/sbin/nologin' >>/etc/passwd \
    && echo 'tproxy:x:1337:' >>/etc/group
COPY --from=build-proxy /opt/tproxy /opt/tproxy
ENV PATH=/opt/tproxy/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 1337:1337
EXPOSE 15001 15006 15020 15021
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tproxy" \
    org.opencontainers.image.description="A service-mesh sidecar without eBPF, steered by policy files" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s CMD ["tproxy", "wait", "--timeout", "1"]
ENTRYPOINT ["tproxy"]
CMD ["run"]
