"""The admin: what changes and describes a cluster, in rooms by what it is about.

Every call asks the node that has to be asked (the controller, a leader, a coordinator, each node,
or the one with least to do), again with back-off where that may help, until
`default_api_timeout_ms` is over.

What is refused raises a RefusedError, which is a KafkaError: its `errors` hold one for each thing
that was refused, its `results` what came of the others. Those are done: Kafka answers each by
itself, and there is no undoing. TimedOutError: nothing was settled in time, and its cause says why;
what was asked may have been done all the same. A call that a broker is too old for raises
UNSUPPORTED_VERSION.
"""

from ottla.client.admin_acls import AclAdmin
from ottla.client.admin_cluster import ClusterAdmin
from ottla.client.admin_configs import ConfigAdmin
from ottla.client.admin_groups import GroupAdmin
from ottla.client.admin_offsets import OffsetAdmin
from ottla.client.admin_replicas import ReplicaAdmin
from ottla.client.admin_topics import TopicAdmin
from ottla.client.admin_transactions import TransactionAdmin
from ottla.client.admin_users import UserAdmin


class Admin(
    TopicAdmin,
    ConfigAdmin,
    ClusterAdmin,
    ReplicaAdmin,
    GroupAdmin,
    OffsetAdmin,
    TransactionAdmin,
    AclAdmin,
    UserAdmin,
):
    """Changes and describes a cluster. Options are those of `AdminSettings`.

    async with Admin(world=world, bootstrap_servers="127.0.0.1:9092") as admin:
        await admin.create_topics(NewTopic("greetings", num_partitions=3))
    """
