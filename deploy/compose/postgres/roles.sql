-- One role per service, which owns one schema and cannot use any other. The image of Postgres runs this file once, when its volume
-- is empty, with the passwords of .env in its environment.
\set ON_ERROR_STOP on

REVOKE ALL ON DATABASE slipway, postgres FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;

\getenv password POSTGRES_PASSWORD_REGISTRY
CREATE ROLE slipway_registry LOGIN PASSWORD :'password';
CREATE SCHEMA registry AUTHORIZATION slipway_registry;

\getenv password POSTGRES_PASSWORD_LAUNCHER
CREATE ROLE slipway_launcher LOGIN PASSWORD :'password';
CREATE SCHEMA launcher AUTHORIZATION slipway_launcher;

\getenv password POSTGRES_PASSWORD_ROLLOUT_CONTROLLER
CREATE ROLE slipway_rollout_controller LOGIN PASSWORD :'password';
CREATE SCHEMA rollout_controller AUTHORIZATION slipway_rollout_controller;

\getenv password POSTGRES_PASSWORD_DRIFT_MONITOR
CREATE ROLE slipway_drift_monitor LOGIN PASSWORD :'password';
CREATE SCHEMA drift_monitor AUTHORIZATION slipway_drift_monitor;

GRANT CONNECT, TEMPORARY ON DATABASE slipway
  TO slipway_registry, slipway_launcher, slipway_rollout_controller, slipway_drift_monitor;
