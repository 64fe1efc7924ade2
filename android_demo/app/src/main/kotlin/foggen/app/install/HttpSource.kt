package foggen.app.install

import java.io.IOException
import java.io.InputStream
import java.net.HttpURLConnection
import java.net.MalformedURLException
import java.net.URL

private const val CONNECT_MS = 10_000
private const val READ_MS = 30_000
private val LOOPBACK = setOf("localhost", "127.0.0.1")

/**
 * A bundle's directory on a web server.
 *
 * @param base its URL; the files' names are put after it
 * @param allowLoopback whether plain HTTP to this device itself is allowed
 */
class HttpSource(base: String, allowLoopback: Boolean = false) : BundleSource {
    private val folder = base.trim().trimEnd('/') + "/"

    init {
        checkAddress(folder, allowLoopback)
    }

    override fun open(name: String, offset: Long): InputStream {
        val connection = URL(folder + name.split('/').joinToString("/", transform = ::encoded)).openConnection() as HttpURLConnection
        connection.connectTimeout = CONNECT_MS
        connection.readTimeout = READ_MS
        connection.setRequestProperty("Accept-Encoding", "identity")
        if (offset > 0) connection.setRequestProperty("Range", "bytes=$offset-")
        try {
            return body(connection, name, offset)
        } catch (error: Exception) {
            connection.disconnect()
            throw error
        }
    }

    private fun body(connection: HttpURLConnection, name: String, offset: Long): InputStream {
        val status = connection.responseCode
        return when {
            status == 200 -> connection.inputStream.apply { dropBytes(offset) }
            status == 206 && offset > 0 -> {
                val range = connection.getHeaderField("Content-Range").orEmpty()
                if (!range.startsWith("bytes $offset-")) throw InstallException("$name: asked for byte $offset on, got '$range'")
                connection.inputStream
            }
            status == 408 || status == 429 || status in 500..599 -> throw IOException("$name: HTTP $status")
            else -> throw InstallException("$name: the server says HTTP $status")
        }
    }
}

/**
 * Refuses what is neither HTTPS nor, where allowed, plain HTTP to this device itself.
 *
 * @throws InstallException the address is of another kind
 */
fun checkAddress(address: String, allowLoopback: Boolean) {
    val url = try {
        URL(address)
    } catch (error: MalformedURLException) {
        throw InstallException("address: must be an https:// URL, is '$address'", error)
    }
    val loopback = url.protocol == "http" && url.host in LOOPBACK
    if (url.protocol != "https" && !(loopback && allowLoopback)) {
        val hint = if (loopback) "; allow plain HTTP to this device in the settings" else ""
        throw InstallException("address: must be an https:// URL, is '$address'$hint")
    }
}

private fun encoded(segment: String): String = java.net.URLEncoder.encode(segment, "UTF-8").replace("+", "%20")
