"""A service-mesh sidecar without eBPF: it carries a pod's captured TCP, and policy files steer it.

The init step (`init-container/tproxy_init`) has the kernel redirect a pod's connections to two ports of ours. What
happens to one of them is `proxy/connection.py`: begin reading there.

    application ──▶ :15001 outbound ─┐                                                                ┌─▶ where it was going
                                     ├─ original dst ▶ sniff ▶ (TLS) ▶ admit ▶ HTTP pipeline or relay ┤
    other pods  ──▶ :15006 inbound  ─┘                                                                └─▶ the local application

Words
    downstream / upstream   who dialled us / whom we dial
    inbound / outbound      towards the local application / from it
    flow                    one captured connection, and what is known of it
    exchange                one request and its response
    route, plan             which way it goes, and what traffic policies want done on the way
    cluster, endpoint       a named group that answers for a host, and one of the group
    peer                    the other end, once mutual TLS has proven who it is: a SPIFFE id
    snapshot                one generation of compiled policies; whoever decides takes it once

Floors; imports go down only
    cli                     one file per verb
    launch                  from settings to processes
    app | supervisor | lab | injector | doctor
                            a worker's life | several workers kept running | pods as network namespaces on this
                            machine | the webhook that gives pods their sidecars | what is wrong with a machine
    siblings                one administration for all workers
    admin | settings        health, metrics, configuration dump | options and environment
    proxy                   the path of a connection
    filters | upstream      one feature, one file | pooled connections and the innermost handler
    net | stores | discovery
                            trio meets sockets | every cell that changes while we run | endpoints that names lead to
    sniff | codec | tls | policy | telemetry | inject
                            first bytes to a protocol | HTTP bytes to events | certificates to identities |
                            files to decisions | facts to text | manifests to manifests with a sidecar
    model                   the words above, as types
    resilience              limits, breakers, retries, balance: machines that know nothing of proxies

Below `net` nothing waits, and time is an argument. Only `codec` knows h11, httptools and h2, and only
`tls` OpenSSL.

Ports
    15001 outbound (loopback)   15006 inbound (every address)
    15000 admin (loopback)      15020 metrics      15021 readiness
"""
