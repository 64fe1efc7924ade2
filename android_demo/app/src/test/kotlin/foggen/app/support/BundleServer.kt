package foggen.app.support

import com.sun.net.httpserver.HttpExchange
import com.sun.net.httpserver.HttpServer
import java.net.InetSocketAddress
import java.nio.file.Files
import java.nio.file.Path
import java.util.concurrent.CopyOnWriteArrayList
import java.util.concurrent.Executors
import java.util.concurrent.atomic.AtomicLong

/** What a server does that is not as it should be. */
class Faults(
    val ranges: Boolean = true,
    val wrongRange: Boolean = false,
    val status: Int? = null,
    /** Ends each response after so many bytes. */
    val cutAfter: Int? = null,
    /** Waits after each 16 KB. */
    val pauseMs: Long = 0,
)

/** Serves a folder on loopback, with ranges. */
class BundleServer(private val folder: Path, @Volatile var faults: Faults = Faults()) : AutoCloseable {
    private val server = HttpServer.create(InetSocketAddress("127.0.0.1", 0), 0)
    val sent = AtomicLong()

    /** Each request as its file, and the byte it asked for. */
    val requests = CopyOnWriteArrayList<Pair<String, Long>>()

    init {
        server.executor = Executors.newCachedThreadPool { Thread(it).apply { isDaemon = true } }
        server.createContext("/") { exchange -> exchange.use(::serve) }
        server.start()
    }

    val url = "http://127.0.0.1:${server.address.port}/bundles/one"

    private fun HttpExchange.use(work: (HttpExchange) -> Unit) = try { work(this) } finally { close() }

    private fun serve(exchange: HttpExchange) {
        val name = exchange.requestURI.path.removePrefix("/bundles/one/")
        val asked = exchange.requestHeaders.getFirst("Range")?.removePrefix("bytes=")?.removeSuffix("-")?.toLong()
        requests += name to (asked ?: 0)
        val path = folder.resolve(name)
        val now = faults
        if (now.status != null) return exchange.sendResponseHeaders(now.status, -1)
        if (!Files.exists(path)) return exchange.sendResponseHeaders(404, -1)
        val bytes = Files.readAllBytes(path)
        val start = if (now.ranges) asked?.toInt() ?: 0 else 0
        if (asked != null && now.ranges) {
            val said = if (now.wrongRange) 0 else start
            exchange.responseHeaders.add("Content-Range", "bytes $said-${bytes.size - 1}/${bytes.size}")
        }
        val length = bytes.size - start
        exchange.sendResponseHeaders(if (asked != null && now.ranges) 206 else 200, if (length == 0) -1L else length.toLong())
        if (length > 0) write(exchange, bytes, start, now)
    }

    private fun write(exchange: HttpExchange, bytes: ByteArray, start: Int, now: Faults) {
        val end = minOf(bytes.size, now.cutAfter?.let { start + it } ?: bytes.size)
        var place = start
        while (place < end) {
            val count = minOf(16_384, end - place)
            exchange.responseBody.write(bytes, place, count)
            exchange.responseBody.flush()
            sent.addAndGet(count.toLong())
            place += count
            if (now.pauseMs > 0) Thread.sleep(now.pauseMs)
        }
    }

    override fun close() = server.stop(0)
}
