package foggen.bundle

import com.google.gson.JsonObject
import foggen.BundleException
import foggen.json.jsonOf
import java.io.IOException
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption
import java.security.MessageDigest

private const val CHUNK_BYTES = 1 shl 18

/**
 * An exported model that was checked.
 *
 * @property directory where it lies
 * @property manifest its `foggen.json`
 */
class Bundle private constructor(val directory: Path, val manifest: Manifest) {
    /** Returns where one of the bundle's files lies. */
    fun path(name: String): Path = directory.resolve(name)

    private fun checkFiles() {
        for ((name, info) in manifest.files) {
            val path = path(name)
            val (size, inside) = try {
                Files.size(path) to liesInside(path, directory)
            } catch (error: IOException) {
                throw BundleException("$path: cannot be read: $error", error)
            }
            if (!inside) throw BundleException("$path: must lie inside $directory, is a link out of it; put the file itself there")
            if (!Files.isRegularFile(path)) throw BundleException("$path: must be a regular file, is not")
            if (size != info.bytes) throw BundleException("$path: must have ${info.bytes} bytes, has $size")
        }
    }

    private fun checkHashes(progress: (Long) -> Unit) {
        var done = 0L
        for ((name, info) in manifest.files) {
            val digest = sha256(path(name)) { progress(done + it) }
            done += info.bytes
            if (digest != info.sha256) {
                throw BundleException(
                    "${path(name)}: SHA-256 must be ${info.sha256}, is $digest; " +
                        "the file was altered: export or download the bundle again",
                )
            }
            if (name.endsWith(GRAPH_SUFFIX)) checkGraph(name)
        }
    }

    /** Refuses a model that reads what is not listed; only plain names are the list's own. */
    private fun checkGraph(name: String) {
        val folder = name.substringBeforeLast('/', "")
        val locations = try {
            externalLocations(path(name))
        } catch (error: ModelFormatException) {
            throw BundleException("${path(name)}: cannot be read as an ONNX model: ${error.message}", error)
        }
        for (location in locations) {
            if ((if (folder.isEmpty()) location else "$folder/$location") !in manifest.files) {
                throw BundleException("${path(name)}: must read only files that are listed with their hashes, reads '$location'")
            }
        }
    }

    private fun state(): JsonObject {
        val files = manifest.files.keys.associateWith { fileState(path(it)) }
        return jsonOf("kind" to "bundle", "sha256" to manifest.sha256, "files" to files)
    }

    companion object {
        /**
         * Reads the manifest and checks every file's size, and on first use its hash.
         *
         * @param verify hash all files, whether or not they were verified before
         * @param notes a directory outside of every bundle that nobody else writes to, for notes that
         *   files were verified; null for none, which hashes every file at each use
         * @param progress told how many bytes are hashed
         * @throws BundleException it is no bundle, or a file is missing or not the one exported
         */
        fun open(directory: Path, verify: Boolean = false, notes: Path? = null, progress: (Long) -> Unit = {}): Bundle {
            val bundle = Bundle(directory, readManifest(directory))
            bundle.checkFiles()
            val verified = VerifiedNotes(notes)
            try {
                val state = bundle.state()
                if (verify || !verified.holds(state)) {
                    bundle.checkHashes(progress)
                    verified.keep(state)
                }
            } catch (error: IOException) {
                throw BundleException("$directory: cannot be read: $error", error)
            }
            return bundle
        }
    }
}

/** Whether a path, links followed, is in a directory. */
internal fun liesInside(path: Path, directory: Path): Boolean = path.toRealPath().startsWith(directory.toRealPath())

internal fun sha256(bytes: ByteArray): String = hexadecimal(MessageDigest.getInstance("SHA-256").digest(bytes))

internal fun sha256(path: Path, progress: (Long) -> Unit = {}): String {
    val digest = MessageDigest.getInstance("SHA-256")
    val chunk = ByteArray(CHUNK_BYTES)
    var total = 0L
    Files.newInputStream(path).use { input ->
        while (true) {
            val count = input.read(chunk)
            if (count < 0) break
            digest.update(chunk, 0, count)
            total += count
            progress(total)
        }
    }
    return hexadecimal(digest.digest())
}

internal fun writeAtomically(path: Path, bytes: ByteArray) {
    val temporary = Files.createTempFile(path.parent, ".${path.fileName}.", null)
    try {
        java.io.FileOutputStream(temporary.toFile()).use {
            it.write(bytes)
            it.fd.sync()
        }
        Files.move(temporary, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING)
    } finally {
        Files.deleteIfExists(temporary)
    }
}

private fun hexadecimal(bytes: ByteArray): String = bytes.joinToString("") { "%02x".format(it) }
