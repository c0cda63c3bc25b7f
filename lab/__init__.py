"""Routers, hosts and links in network namespaces, built from a TOML file and gone without a trace.

General layout, from what a person touches down to the kernel:

    cli         `xdprouter lab ...`
    lab         one lab: up, down, exec, start_xdprouter, link_down, link_up
    topology    what a TOML file declares, checked before anything is built
    strict      the checks: every error names file, key and remedy
    network     veth pairs, addresses, routes, sysctls of one namespace
    frr, bird   the routing daemons of one router
    instance    one xdprouter process on a router
    namespace   network namespaces: create, delete, enter, run in
    process     processes: who is inside a namespace, and how to end them
    wait        the one bounded wait
    errors      what can go wrong

Importing `lab`, `lab.topology` or `lab.cli` loads neither pyroute2 nor anything else that is slow.
"""
