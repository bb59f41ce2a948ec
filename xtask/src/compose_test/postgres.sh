#!/bin/sh
# As much of the entry point of the official image of Postgres as docker-compose.yml relies on.
set -eu
data=/var/lib/postgresql/18/docker
as_postgres() { su -s /bin/sh postgres -c "$*"; }
if [ ! -s "$data/PG_VERSION" ]; then
  mkdir -p "$data"
  chown -R postgres /var/lib/postgresql
  (umask 077 && printf %s "$POSTGRES_PASSWORD" >/tmp/password)
  chown postgres /tmp/password
  as_postgres "initdb --pgdata $data --username postgres --pwfile /tmp/password ${POSTGRES_INITDB_ARGS:-}"
  rm /tmp/password
  echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
  as_postgres "pg_ctl --pgdata $data --options \"-c listen_addresses=''\" --wait start"
  psql --username postgres --dbname postgres --command "CREATE DATABASE $POSTGRES_DB"
  for file in /docker-entrypoint-initdb.d/*.sql; do
    psql --set ON_ERROR_STOP=1 --username postgres --dbname "$POSTGRES_DB" --file "$file"
  done
  as_postgres "pg_ctl --pgdata $data --mode fast --wait stop"
fi
exec su -s /bin/sh postgres -c "exec postgres -D $data -c listen_addresses='*'"
