package foggen.bundle

import com.google.gson.JsonObject
import foggen.BundleException
import foggen.json.JsonException
import foggen.json.compactJson
import foggen.json.jsonOf
import foggen.json.parseJson
import java.io.IOException
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption
import java.security.MessageDigest
import java.util.concurrent.TimeUnit

// Says that the hashes were right when the files had these sizes and times, so that only the first
// use of a bundle reads every byte of it. The Python runtime writes and reads the same file.
private const val VERIFIED_FILE = ".verified.json"
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

    private fun checkSizes() {
        for ((name, info) in manifest.files) {
            val size = try {
                Files.size(path(name))
            } catch (error: IOException) {
                throw BundleException("${path(name)}: cannot be read: $error", error)
            }
            if (size != info.bytes) {
                throw BundleException("${path(name)}: must have ${info.bytes} bytes, has $size")
            }
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
        }
    }

    private fun state(): JsonObject {
        val files = JsonObject()
        for (name in manifest.files.keys) {
            val modified = Files.getLastModifiedTime(path(name)).to(TimeUnit.NANOSECONDS)
            files.add(name, jsonOf("state" to listOf(Files.size(path(name)), modified)).get("state"))
        }
        return jsonOf("bundle_sha256" to manifest.sha256, "files" to files)
    }

    private fun wasVerified(state: JsonObject): Boolean =
        try {
            val recorded = Files.newBufferedReader(path(VERIFIED_FILE)).use { parseJson(it) }
            compactJson(recorded, sorted = true) == compactJson(state, sorted = true)
        } catch (_: IOException) {
            false
        } catch (_: JsonException) {
            false
        }

    /** Notes the verification; in a read-only directory each use verifies again. */
    private fun remember(state: JsonObject) {
        try {
            writeAtomically(path(VERIFIED_FILE), compactJson(state).toByteArray())
        } catch (_: IOException) {
            return
        }
    }

    companion object {
        /**
         * Reads the manifest and checks every file's size, and on first use its hash.
         *
         * @param verify hash all files, whether or not they were verified before
         * @param progress told how many bytes are hashed
         * @throws BundleException it is no bundle, or a file is missing or not the one exported
         */
        fun open(directory: Path, verify: Boolean = false, progress: (Long) -> Unit = {}): Bundle {
            val bundle = Bundle(directory, readManifest(directory))
            bundle.checkSizes()
            try {
                val state = bundle.state()
                if (verify || !bundle.wasVerified(state)) {
                    bundle.checkHashes(progress)
                    bundle.remember(state)
                }
            } catch (error: IOException) {
                throw BundleException("$directory: cannot be read: $error", error)
            }
            return bundle
        }
    }
}

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
