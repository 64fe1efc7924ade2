package foggen.app.support

import com.sun.net.httpserver.HttpServer
import foggen.json.compactJson
import foggen.json.jsonOf
import java.net.InetSocketAddress

/** Answers every chat completion with the same text, streaming. */
class ChatServer(answer: String) : AutoCloseable {
    private val server = HttpServer.create(InetSocketAddress("127.0.0.1", 0), 0)

    @Volatile
    var authorization: String? = null
        private set

    val url = "http://127.0.0.1:${server.address.port}/v1"

    init {
        server.createContext("/v1/chat/completions") { exchange ->
            authorization = exchange.requestHeaders.getFirst("Authorization")
            exchange.requestBody.readBytes()
            exchange.responseHeaders.add("Content-Type", "text/event-stream")
            exchange.sendResponseHeaders(200, 0)
            exchange.responseBody.use { body ->
                body.write("data: ${chunk(jsonOf("content" to answer), null)}\n\n".toByteArray())
                body.write("data: ${chunk(jsonOf(), "stop")}\n\ndata: [DONE]\n\n".toByteArray())
            }
        }
        server.start()
    }

    private fun chunk(delta: com.google.gson.JsonObject, finish: String?) = compactJson(
        jsonOf(
            "id" to "c1",
            "object" to "chat.completion.chunk",
            "created" to 1,
            "model" to "big",
            "choices" to listOf(jsonOf("index" to 0, "delta" to delta, "finish_reason" to finish)),
        ),
    )

    override fun close() = server.stop(0)
}
