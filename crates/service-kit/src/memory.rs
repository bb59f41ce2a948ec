//! How the allocator keeps what was freed.

/// Blocks of at least this size are mapped one by one, and unmapped when they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM_BYTES: libc::c_int = 1024 * 1024;
/// Free memory at the end of a heap that is kept for the next request; with less, streams give back and take
/// the same pages all the time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: libc::c_int = 4 * 1024 * 1024;

/// Gives large buffers back to the system as soon as they are freed.
///
/// By itself, glibc takes every large block that is freed as a reason to keep blocks of that size in its
/// heaps from then on (up to 32 MiB, see `M_MMAP_THRESHOLD` in mallopt(3)): a service that once moved a large
/// file stays as large as it was then.
pub(crate) fn give_back_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "there is no safe way to this setting of the C library")]
    // SAFETY: mallopt takes two numbers and may be called at any time.
    unsafe {
        // A refusal leaves the default, which is right, only larger.
        let _ = libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES);
        let _ = libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

/// Gives the pages that only the start of a service needed back to the system: its tables of routes and
/// their descriptions take megabytes for a moment.
pub(crate) fn give_back_free_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "there is no safe way to this function of the C library")]
    // SAFETY: malloc_trim only releases what the allocator holds free, and may be called at any time.
    unsafe {
        // It says whether anything was released, which nobody needs to know.
        let _ = libc::malloc_trim(0);
    }
}
