package foggen.app.install

import java.io.IOException
import java.io.InputStream

/** What ends an install for good; its message is fit to be shown to a user. */
class InstallException(message: String, cause: Throwable? = null) : Exception(message, cause)

/** Where the files of a bundle come from. */
fun interface BundleSource {
    /**
     * Opens a file at a byte; the caller closes the stream.
     *
     * @throws IOException it failed this time, and may be tried again
     * @throws InstallException it will fail again
     */
    fun open(name: String, offset: Long): InputStream
}

/** Reads and drops bytes, as [InputStream.skip] need not do. */
internal fun InputStream.dropBytes(count: Long) {
    val chunk = ByteArray(1 shl 16)
    var left = count
    while (left > 0) {
        val read = read(chunk, 0, minOf(left, chunk.size.toLong()).toInt())
        if (read < 0) throw IOException("the file ended $left bytes before byte $count")
        left -= read
    }
}
