"""What a sidecar costs, beside the same pods with Envoy, HAProxy, mitmproxy or no proxy: `make bench`.

    run                   the program
    options               what is asked of it
    rows                  what is measured
    works                 the kinds of work that a row asks of a proxy
    turns                 how proxies take turns in a row
    arena | sidecar       the pods and the origins in them | one proxy in one of them
    proxies               how each proxy is started; its configuration is in peers/, policies/ or mesh/
    loads | talk          generators and what their output says | our own clients that last beside other work
    handshakes            how many of TLS a proxy has counted
    measure               CPU time and memory of processes
    figures               what can be measured, and in which unit
    summary | targets     ratios of runs of the same turn | what they should come to
    tables | chart        text and Markdown | SVG
    report | machine      the files that a run leaves | where and with what it was done

Rows, works, turns and arena start real processes; what comes after `measure` is values in, text out.
"""
