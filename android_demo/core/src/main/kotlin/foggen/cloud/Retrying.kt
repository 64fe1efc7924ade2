package foggen.cloud

import foggen.HandoffException
import java.time.Duration
import java.time.Instant
import java.time.ZonedDateTime
import java.time.format.DateTimeFormatter
import java.time.format.DateTimeParseException

// Request timeout, conflict with the same key under way, too early, too many requests, and Groq's word
// for no capacity.
private val TRANSIENT = setOf(408, 409, 425, 429, 498)

// Failures of a server that the next attempt would meet too: no such method or version, a loop, a
// network to sign in to, a certificate that Cloudflare refuses. Any other one may pass, also if its
// number is nobody's standard (RFC 9110, section 15: it means what 500 does), as Cloudflare's 520 to
// 524 and 530 do, and Anthropic's 529.
private val LASTING = setOf(501, 505, 506, 508, 510, 511, 526)
private const val FIRST_BACKOFF_MS = 250.0
private const val MAX_BACKOFF_MS = 8_000.0
private const val DAY_MS = 86_400_000L

/**
 * Tells whether the server may be asked again.
 *
 * Only where the question cannot be answered twice, or where the server itself says that it has not
 * answered: an attempt that ended otherwise may be under way still.
 */
internal fun isSafeToRetry(error: HandoffException): Boolean {
    val status = error.status ?: return error.reason == "cloud_unreachable" && !error.sent
    return status in TRANSIENT || (status / 100 == 5 && status !in LASTING)
}

/**
 * Returns how long to wait before the next attempt, evenly drawn from 0 to a limit that doubles.
 *
 * "Full jitter" of Brooker, Exponential Backoff And Jitter (AWS Architecture Blog, 2015).
 *
 * @param draw gives a number from 0 to 1
 */
internal fun backoffMs(error: HandoffException, attempts: Int, draw: () -> Double): Long {
    val limit = minOf(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * Math.pow(2.0, attempts - 1.0))
    return (error.retryAfterMs ?: 0) + (limit * draw()).toLong()
}

/**
 * Reads `Retry-After`: seconds, or an HTTP date (RFC 9110, section 10.2.3).
 *
 * @param headers by lower-case name
 * @param now compared with a date if the server does not tell its own: a device's clock may be off
 * @return milliseconds, at most a day, or null if there is no such header
 */
internal fun retryAfterMs(headers: Map<String, String>, now: Instant): Long? {
    val value = headers["retry-after"]?.trim() ?: return null
    if (value.isNotEmpty() && value.all { it in '0'..'9' }) {
        return minOf((value.toLongOrNull() ?: DAY_MS) * 1000, DAY_MS)
    }
    val until = dateOf(value) ?: return null
    val since = dateOf(headers["date"].orEmpty()) ?: now
    return Duration.between(since, until).toMillis().coerceIn(0, DAY_MS)
}

private fun dateOf(text: String): Instant? =
    try {
        ZonedDateTime.parse(text.trim(), DateTimeFormatter.RFC_1123_DATE_TIME).toInstant()
    } catch (_: DateTimeParseException) {
        null
    }
