"""What is no disk and no network of a machine's own, whichever source looks at it."""

import re

# The default exclusions of Prometheus's node_exporter, and tmpfs: memory, not disk.
PSEUDO_FILE_SYSTEMS = frozenset(
    (
        "autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs erofs"
        " fuse.lxcfs fusectl hugetlbfs iso9660 mqueue nsfs overlay proc procfs pstore ramfs"
        " rpc_pipefs securityfs selinuxfs squashfs sysfs tmpfs tracefs"
    ).split()
)

# Loopback, and interfaces that only carry again what a real one carries already: bridges,
# bonds, VLANs, tunnels, containers' ends. By name, since inside a container the real one is
# itself a veth, called eth0.
VIRTUAL_INTERFACES = re.compile(
    r"(lo|docker|br|bond|team|virbr|lxdbr|podman|tun|tap|wg|tailscale|dummy|ifb|sit|gre|gretap"
    r"|erspan|ip6tnl|ip6gre|ip6_vti|ip_vti|tunl)\d*|(veth|br-|vnet|cni|cali|flannel|lxc|kube)\S*"
    r"|\S+\.\d+"
)
