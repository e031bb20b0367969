"""Apache Kafka itself, one KRaft node, run by Java without Docker: the reference for every promise about durability.

`jars` fetches it once with Maven, `configuration` writes its settings, `node` runs it.
"""

from deploy.embedded.apache_kafka.jars import KAFKA_VERSION, MissingToolError, ensure_jars
from deploy.embedded.apache_kafka.node import KafkaNode

__all__ = ["KAFKA_VERSION", "KafkaNode", "MissingToolError", "ensure_jars"]
