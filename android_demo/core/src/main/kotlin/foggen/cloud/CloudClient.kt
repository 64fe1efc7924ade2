package foggen.cloud

import foggen.CloudRef
import foggen.HandoffException
import foggen.QuestionException
import foggen.tokenizer.isText
import kotlinx.coroutines.channels.ClosedReceiveChannelException
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.FlowCollector
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.withTimeoutOrNull
import java.io.IOException
import java.net.ConnectException
import java.net.SocketException
import java.net.SocketTimeoutException
import java.net.URI
import java.net.UnknownHostException
import java.time.Instant
import java.util.concurrent.Executor
import java.util.concurrent.Executors
import java.util.concurrent.ThreadFactory
import javax.net.ssl.SSLException

private const val MAX_BYTES = 8 shl 20
private const val MESSAGE_MS = 1_000L // how long the message of an error is waited for

/**
 * Asks one OpenAI-compatible endpoint, streaming.
 *
 * What leaves the device is the user's message, and a system prompt where the deployer set one. No
 * proxy is taken from the environment, no redirect followed, no connection kept.
 *
 * @param threads run the blocking requests
 * @param draw gives a number from 0 to 1, for the waits between attempts
 */
class CloudClient(
    private val cloud: Cloud,
    private val threads: Executor = Executors.newCachedThreadPool(DaemonThreads),
    private val draw: () -> Double = Math::random,
) : Handoff {
    /** Shared by all questions to this endpoint. */
    val breaker = Breaker(cloud.breakerFailures, cloud.breakerCooldownMs) { nowMs() }

    override fun stream(question: String, key: String): Flow<CloudEvent> = flow {
        if (!isText(question)) throw QuestionException("question: must be valid text, holds half a surrogate pair")
        val deadline = nowMs() + cloud.totalTimeoutMs
        var attempts = 0
        while (true) {
            breaker.enter()
            attempts++
            val attempt = Attempt(question, key, deadline, attempts)
            val failure = attempt.run(this) ?: return@flow
            val wait = backoffMs(failure, attempts, draw)
            val again = attempts <= cloud.maxRetries && isSafeToRetry(failure) && nowMs() + wait < deadline
            if (attempt.begun || !again) throw failure
            delay(wait)
        }
    }

    private inner class Attempt(
        private val question: String,
        key: String,
        private val deadline: Long,
        private val number: Int,
    ) {
        private val secrets = listOf(question, cloud.apiKey.orEmpty())
        private val exchange = Exchange(cloud, question, key)
        private var sent = false
        private var limit = minOf(nowMs() + cloud.connectTimeoutMs, deadline)

        /** Whether a piece of the answer was handed out. */
        var begun = false
            private set

        /** Gives the answer, or returns what went wrong. */
        suspend fun run(out: FlowCollector<CloudEvent>): HandoffException? {
            var well: Boolean? = null
            var failure: HandoffException? = null
            exchange.start(threads)
            try {
                val answer = converse(out)
                well = true
                out.emit(answer)
            } catch (error: HandoffException) {
                if (well == null) {
                    well = error.status in 400..499
                    failure = error
                } else {
                    throw error
                }
            } finally {
                breaker.leave(well)
                exchange.abandon(threads)
            }
            return failure
        }

        private suspend fun converse(out: FlowCollector<CloudEvent>): CloudEvent.Answer {
            next() as? Wire.Sending ?: throw invalid("no connection")
            sent = true
            renew()
            val head = next() as? Wire.Head ?: throw invalid("no response")
            val reader = if (check(head) == EVENTS) StreamReader(secrets) else DocumentReader(secrets)
            var size = 0
            while (!reader.done) {
                val body = next() as? Wire.Body ?: break
                size += body.bytes.size
                if (size > MAX_BYTES) throw invalid("the answer exceeds $MAX_BYTES bytes")
                give(reader.feed(body.bytes), out)
                if (reader.begun) renew()
            }
            give(reader.finish(), out)
            return reader.answer(CloudRef(cloud.url, null, number, plainName(head.headers["x-request-id"], secrets)))
        }

        private suspend fun give(pieces: List<String>, out: FlowCollector<CloudEvent>) {
            for (piece in pieces) {
                begun = true
                out.emit(CloudEvent.Piece(piece))
            }
        }

        /**
         * Returns the body's content type, or throws, with the server's message, unless it may be an answer.
         *
         * Where the server tells no type, it is the one asked for; some can answer only whole.
         */
        private suspend fun check(head: Wire.Head): String {
            val kind = head.contentType.ifEmpty { EVENTS }
            val readable = head.coding == "identity" || head.coding in CODINGS
            if (head.status == 200 && kind in setOf(EVENTS, DOCUMENT) && readable) return kind
            limit = minOf(limit, nowMs() + MESSAGE_MS)
            val said = serverMessage(errorBody(), secrets)
            if (head.status == 200) {
                val found = shown("'${head.contentType}' (${head.coding})", secrets)
                throw HandoffException(
                    "cloud_invalid",
                    "cloud: content type must be $EVENTS or $DOCUMENT (identity, gzip or deflate), is $found$said",
                    status = 200,
                    sent = true,
                )
            }
            val wait = retryAfterMs(head.headers, Instant.now())
            val what = "cloud: HTTP ${head.status}${said.ifEmpty { moved(head) }}"
            throw HandoffException(failureReason(head.status), what, wait, head.status, sent = true)
        }

        /**
         * Says where a redirect leads; following it would hand the key and the question on.
         *
         * Credentials and query may be secrets, and are left out.
         */
        private fun moved(head: Wire.Head): String {
            val location = head.headers["location"]
            if (head.status / 100 != 3 || location.isNullOrEmpty()) return ""
            val target = try {
                URI(cloud.completionsUrl).resolve(location)
            } catch (_: IllegalArgumentException) {
                return ""
            }
            val port = if (target.port < 0) "" else ":${target.port}"
            val place = shown("${target.scheme}://${target.host}$port${target.path}".removeSuffix(PATH), secrets)
            return ": it redirects to $place, and no redirect is followed; if the cloud is there now, set its url to that"
        }

        private suspend fun errorBody(): String {
            val body = java.io.ByteArrayOutputStream()
            try {
                while (body.size() < MAX_BYTES) body.write((next() as? Wire.Body ?: break).bytes)
            } catch (_: HandoffException) {
                return String(body.toByteArray(), Charsets.UTF_8)
            }
            return String(body.toByteArray(), Charsets.UTF_8)
        }

        /** Waits for what comes next within the limits; null at the end. */
        private suspend fun next(): Wire? {
            val left = limit - nowMs()
            val item = if (left <= 0) null else withTimeoutOrNull(left) { receive() }
            if (item == null) throw tooLate()
            if (item !is Wire.End) return item
            if (item.error != null) throw failure(item.error)
            return null
        }

        private suspend fun receive(): Wire =
            try {
                exchange.wire.receive()
            } catch (_: ClosedReceiveChannelException) {
                Wire.End(null)
            }

        private fun renew() {
            limit = minOf(nowMs() + cloud.firstTokenTimeoutMs, deadline)
        }

        private fun tooLate(): HandoffException = when {
            nowMs() >= deadline -> timeout("no whole answer within totalTimeoutMs of ${cloud.totalTimeoutMs}")
            sent -> timeout("silent for longer than firstTokenTimeoutMs of ${cloud.firstTokenTimeoutMs}")
            else -> HandoffException(
                "cloud_unreachable",
                "cloud: no connection within connectTimeoutMs of ${cloud.connectTimeoutMs}",
            )
        }

        private fun timeout(what: String) = HandoffException("cloud_timeout", "cloud: $what", sent = sent)

        /** Says what went wrong on the way. */
        private fun failure(error: IOException): HandoffException {
            val reason = when (error) {
                is SocketTimeoutException -> if (sent) "cloud_timeout" else "cloud_unreachable"
                is ConnectException, is SocketException, is UnknownHostException, is SSLException -> "cloud_unreachable"
                else -> if (sent) "cloud_invalid" else "cloud_unreachable"
            }
            val what = shown("${error.javaClass.simpleName}: ${error.message}", secrets)
            return HandoffException(reason, "cloud: ${cloud.completionsUrl}: $what", sent = sent, cause = error)
        }
    }
}

private object DaemonThreads : ThreadFactory {
    override fun newThread(work: Runnable): Thread = Thread(work, "foggen-cloud").apply { isDaemon = true }
}

private fun nowMs(): Long = System.nanoTime() / 1_000_000
