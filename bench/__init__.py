"""What a sidecar costs, beside the same pods with Envoy, HAProxy, mitmproxy or no proxy: `make bench`.

run         the program
options     what is asked of it
rows        what is measured
turns       one run of one row, and how runs take turns
arena       the pods, the origins and the proxies in them
proxies     how each proxy is started
loads       load generators, and what their output says
measure     CPU time and memory of processes
results     what all runs come to: ratios, targets, files
"""
