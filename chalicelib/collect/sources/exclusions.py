"""File systems and network interfaces that no source counts."""

import re

# The default exclusions of Prometheus's node_exporter, and tmpfs, which is memory.
PSEUDO_FILE_SYSTEMS = frozenset(
    (
        "autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs erofs"
        " fuse.lxcfs fusectl hugetlbfs iso9660 mqueue nsfs overlay proc procfs pstore ramfs"
        " rpc_pipefs securityfs selinuxfs squashfs sysfs tmpfs tracefs"
    ).split()
)

# Loopback, and interfaces whose traffic a physical interface also counts: bridges, bonds, VLANs,
# tunnels, container endpoints. Matched by name, because the main interface of a container is a
# veth named eth0.
VIRTUAL_INTERFACES = re.compile(
    r"(lo|docker|br|bond|team|virbr|lxdbr|podman|tun|tap|wg|tailscale|dummy|ifb|sit|gre|gretap"
    r"|erspan|ip6tnl|ip6gre|ip6_vti|ip_vti|tunl)\d*|(veth|br-|vnet|cni|cali|flannel|lxc|kube)\S*"
    r"|\S+\.\d+"
)
