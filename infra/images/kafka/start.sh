#!/bin/sh
# Starts the broker of the image; the first time it makes its folder.
set -eu
home=/var/lib/rapport/kafka
sed -e "s|@PORT@|9092|g; s|@CONTROLLER_PORT@|9093|g; s|@HOST@|$KAFKA_HOST|g; s|@DATA@|$home/data|g" \
    /opt/rapport/server.properties >/tmp/server.properties
java="java -Xmx${KAFKA_HEAP_MB}m -Xms64m -XX:+UseSerialGC -Djava.io.tmpdir=/tmp -Dlog4j2.configurationFile=/opt/rapport/log4j2.properties"
[ -f "$home/data/meta.properties" ] ||
    $java -cp '/opt/kafka/*' kafka.tools.StorageTool format -t rapport-of-1-machine-- -c /tmp/server.properties
exec $java -cp '/opt/kafka/*' kafka.Kafka /tmp/server.properties
