//! Metrics that are collected at each scrape, or named when the service starts. The test of a running
//! platform compares this list with what services expose.

/// Name, kind, labels, help, and which services have it.
type Row = (&'static str, &'static str, &'static [&'static str], &'static str, &'static str);

const SERVING: &str = "serving";
const CONTROLLER: &str = "rollout-controller";
const SEVERAL: &str = "several";

pub(crate) const COLLECTED: [Row; 32] = [
    ("process_start_time_seconds", "gauge", &[], "Start time of the process, in seconds since 1970", SEVERAL),
    ("process_resident_memory_bytes", "gauge", &[], "Resident memory of the process", SEVERAL),
    ("process_open_fds", "gauge", &[], "Open file descriptors", SEVERAL),
    (
        "process_cpu_seconds_total",
        "counter",
        &[],
        "CPU time of the process, in user and system mode",
        SEVERAL,
    ),
    (
        "slipway_access_data_age_seconds",
        "gauge",
        &[],
        "Time since the registry published the tokens and roles that callers are checked by",
        SEVERAL,
    ),
    ("nv_inference_request_success", "unknown", &MODEL, "Successful requests", SERVING),
    ("nv_inference_request_failure", "unknown", &MODEL, "Failed requests", SERVING),
    ("nv_inference_count", "unknown", &MODEL, "Rows inferred", SERVING),
    ("nv_inference_exec_count", "unknown", &MODEL, "Runs of the model", SERVING),
    ("nv_inference_request_duration_us", "unknown", &MODEL, "Time of successful requests", SERVING),
    ("nv_inference_queue_duration_us", "unknown", &MODEL, "Time in queues", SERVING),
    ("nv_inference_compute_input_duration_us", "unknown", &MODEL, "Time copying inputs", SERVING),
    ("nv_inference_compute_infer_duration_us", "unknown", &MODEL, "Time in models", SERVING),
    ("nv_inference_compute_output_duration_us", "unknown", &MODEL, "Time copying outputs", SERVING),
    ("nv_inference_pending_request_count", "gauge", &MODEL, "Queued requests", SERVING),
    (
        "slipway_serving_requests_dropped_total",
        "counter",
        &["deployment", "version", "reason"],
        "Requests dropped before they ran",
        SERVING,
    ),
    (
        "slipway_serving_requests_joined",
        "gauge",
        &VERSION,
        "Whether queued requests share runs: 1, or 0",
        SERVING,
    ),
    (
        "slipway_serving_join_audits_total",
        "counter",
        &["deployment", "version", "outcome"],
        "Requests of joined runs that ran again alone, by whether the answers agreed",
        SERVING,
    ),
    ("slipway_serving_requests_waiting", "gauge", &VERSION, "Queued requests", SERVING),
    ("slipway_serving_gpu_use_percent", "gauge", &[], "Share of the time in which the GPUs compute", SERVING),
    (
        "slipway_serving_tables_current",
        "gauge",
        &[],
        "Whether the traffic tables in use are known to be the current ones: 1, or 0",
        SERVING,
    ),
    (
        "slipway_serving_tables_unconfirmed_seconds",
        "gauge",
        &[],
        "Time since the traffic tables in use were last known to be the current ones",
        SERVING,
    ),
    ("slipway_serving_tls_file_errors_total", "counter", &[], "Invalid changes of the TLS files", SERVING),
    (
        "slipway_serving_tls_certificate_expires_timestamp_seconds",
        "gauge",
        &[],
        "Expiry time of the certificate presented to new connections, in seconds since 1970",
        SERVING,
    ),
    (
        "slipway_deployment_replicas",
        "gauge",
        &DEPLOYMENT,
        "Replicas that report on the deployment",
        CONTROLLER,
    ),
    (
        "slipway_deployment_in_flight_requests",
        "gauge",
        &DEPLOYMENT,
        "Requests that are being answered",
        CONTROLLER,
    ),
    (
        "slipway_deployment_requests_per_second",
        "gauge",
        &DEPLOYMENT,
        "Requests per second, failed ones included",
        CONTROLLER,
    ),
    ("slipway_deployment_errors_per_second", "gauge", &DEPLOYMENT, "Failed requests per second", CONTROLLER),
    (
        "slipway_deployment_latency_milliseconds",
        "gauge",
        &DEPLOYMENT,
        "Mean time from a request to its answer",
        CONTROLLER,
    ),
    (
        "slipway_deployment_cpu_cores",
        "gauge",
        &DEPLOYMENT,
        "CPU cores that the deployment's own replicas use",
        CONTROLLER,
    ),
    ("slipway_deployment_weight_percent", "gauge", &VERSION, "Share of the traffic of a version", CONTROLLER),
    (
        "slipway_outbox_oldest_unpublished_seconds",
        "gauge",
        &[],
        "Age of the oldest event that was committed and not yet published; 0 without one",
        SEVERAL,
    ),
];

const MODEL: [&str; 2] = ["model", "version"];
const VERSION: [&str; 2] = ["deployment", "version"];
const DEPLOYMENT: [&str; 1] = ["deployment"];
