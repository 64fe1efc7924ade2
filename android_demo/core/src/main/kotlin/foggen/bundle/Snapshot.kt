package foggen.bundle

import foggen.BundleException
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.channels.FileChannel
import java.nio.file.StandardOpenOption

private val MAGIC = byteArrayOf(0x93.toByte(), 'N'.code.toByte(), 'U'.code.toByte(), 'M'.code.toByte(), 'P'.code.toByte(), 'Y'.code.toByte())
private val SHAPE = Regex("""'shape':\s*\(([^()]*)\)""")
private const val REMEDY = "export the bundle again, or open it with recomputePrefix"

/**
 * Maps the KV cache of the prompt's constant prefix, as computed at export.
 *
 * @return (layers, key and value, key/value heads, prefix tokens, head size), little-endian
 * @throws BundleException it cannot be read, or is not of this bundle's weights, tokenizer and prompt
 */
internal fun mapSnapshot(bundle: Bundle, info: SnapshotInfo): FloatBuffer {
    val path = bundle.path(info.file)
    val key = expectedKey(bundle.manifest)
    if (info.key != key) {
        throw BundleException(
            "$path: prefix_snapshot.key: must be $key for these weights, tokenizer and prompt, " +
                "is ${info.key}; $REMEDY",
        )
    }
    val model = bundle.manifest.model
    val tokens = bundle.manifest.prompt.prefixIds.size
    val shape = listOf(model.layers, 2, model.keyValueHeads, tokens, model.headDim)
    return try {
        val bytes = FileChannel.open(path, StandardOpenOption.READ).use {
            it.map(FileChannel.MapMode.READ_ONLY, 0, it.size())
        }
        arrayIn(bytes, shape) ?: throw BundleException("$path: must be a float32 array $shape; $REMEDY")
    } catch (error: IOException) {
        throw BundleException("$path: cannot be read: ${error.message}; $REMEDY", error)
    }
}

/** Returns the data of a `.npy` file of float32 and this shape, or null where it is another. */
internal fun arrayIn(bytes: ByteBuffer, shape: List<Int>): FloatBuffer? {
    bytes.order(ByteOrder.LITTLE_ENDIAN)
    if (bytes.limit() < 12 || MAGIC.indices.any { bytes.get(it) != MAGIC[it] }) return null
    val long = bytes.get(6) >= 2
    val start = if (long) 12 else 10
    val length = if (long) bytes.getInt(8) else bytes.getShort(8).toInt() and 0xffff
    if (length < 0 || start + length > bytes.limit()) return null
    val header = String(ByteArray(length) { bytes.get(start + it) }, Charsets.ISO_8859_1)
    val found = SHAPE.find(header)?.groupValues?.get(1)?.split(',')?.filter { it.isNotBlank() }
    val matches = "'descr': '<f4'" in header && "'fortran_order': False" in header &&
        found?.map { it.trim().toIntOrNull() } == shape
    val count = shape.fold(1L) { product, size -> product * size }
    if (!matches || bytes.limit() - start - length < 4 * count) return null
    bytes.position(start + length)
    return bytes.slice().order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
}

/** Returns the key that a snapshot must have to fit the rest of the manifest. */
internal fun expectedKey(manifest: Manifest): String {
    val model = manifest.model
    val tokenizer = manifest.files.getValue(TOKENIZER_FILE).sha256
    val prefix = manifest.prompt.prefixIds.joinToString(", ", "[", "]")
    val shape = listOf(model.layers, model.keyValueHeads, model.headDim)
    // Spelled as Python's json.dumps does by default.
    val parts = "[\"${manifest.weightsSha256}\", \"$tokenizer\", $prefix, \"${model.architecture}\", $shape]"
    return sha256(parts.toByteArray())
}
