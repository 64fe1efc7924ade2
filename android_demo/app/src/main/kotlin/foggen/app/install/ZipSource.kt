package foggen.app.install

import java.io.InputStream
import java.util.zip.ZipInputStream

/**
 * A ZIP file that holds a bundle, at its root or in one folder.
 *
 * @param reopen opens the file anew at its start; a file that a user picks has no path
 */
class ZipSource(private val reopen: () -> InputStream) : BundleSource {
    override fun open(name: String, offset: Long): InputStream {
        val zip = ZipInputStream(reopen())
        try {
            while (true) {
                val entry = zip.nextEntry ?: throw InstallException("$name: is not in the ZIP file")
                if (entry.name == name || (entry.name.endsWith("/$name") && entry.name.count { it == '/' } == name.count { it == '/' } + 1)) break
            }
            zip.dropBytes(offset)
            return zip
        } catch (error: Exception) {
            zip.close()
            throw error
        }
    }
}
