package foggen.bundle

import java.io.IOException
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.nio.file.Path
import java.nio.file.StandardOpenOption

private const val VARINT = 0
private const val FIXED64 = 1
private const val BYTES = 2
private const val FIXED32 = 5
private const val MAX_DEPTH = 64

/** A file is no ONNX model, or one that cannot be read for certain. */
internal class ModelFormatException(message: String) : Exception(message)

/** A kind of message, and which of its fields hold messages that lead to tensors (onnx.proto3). */
private class Message(var fields: Map<Int, Message> = emptyMap())

private val ENTRY = Message()
private val TENSOR = Message(mapOf(13 to ENTRY))
private val SPARSE = Message(mapOf(1 to TENSOR, 2 to TENSOR))
private val GRAPH = Message()
private val ATTRIBUTE = Message(mapOf(5 to TENSOR, 6 to GRAPH, 10 to TENSOR, 11 to GRAPH, 22 to SPARSE, 23 to SPARSE))
private val NODE = Message(mapOf(5 to ATTRIBUTE)).also { GRAPH.fields = mapOf(1 to it, 5 to TENSOR, 15 to SPARSE) }
private val FUNCTION = Message(mapOf(7 to NODE, 11 to ATTRIBUTE))
private val TRAINING = Message(mapOf(1 to GRAPH, 2 to GRAPH))
private val MODEL = Message(mapOf(7 to GRAPH, 20 to TRAINING, 25 to FUNCTION))

/**
 * Returns where the tensors of an ONNX model lie, as the model spells it.
 *
 * onnxruntime opens whatever file a tensor's `external_data` names, so a bundle's model must name
 * none that is not listed and hashed.
 *
 * @throws ModelFormatException it is no ONNX model, or one that cannot be read for certain
 * @throws IOException it cannot be read
 */
internal fun externalLocations(path: Path): Set<String> {
    val data = FileChannel.open(path, StandardOpenOption.READ).use {
        if (it.size() !in 1..Int.MAX_VALUE) throw ModelFormatException("must have 1 to ${Int.MAX_VALUE} bytes, has ${it.size()}")
        it.map(FileChannel.MapMode.READ_ONLY, 0, it.size())
    }
    return LinkedHashSet<String>().also { ModelReader(data, it).read(0, data.limit(), MODEL, MAX_DEPTH) }
}

private class ModelReader(private val data: ByteBuffer, private val found: MutableSet<String>) {
    private var at = 0

    fun read(start: Int, end: Int, kind: Message, depth: Int) {
        if (depth == 0) throw ModelFormatException("graphs must be nested at most $MAX_DEPTH deep")
        if (kind === ENTRY) return readEntry(start, end)
        eachField(start, end, kind.fields.keys) { number, from, to -> read(from, to, kind.fields.getValue(number), depth - 1) }
    }

    /** Reads an entry of `external_data`: a key (1) and a value (2); of repeated ones the last. */
    private fun readEntry(start: Int, end: Int) {
        val parts = HashMap<Int, String>()
        eachField(start, end, setOf(1, 2)) { number, from, to ->
            parts[number] = String(ByteArray(to - from) { data.get(from + it) }, Charsets.UTF_8)
        }
        if (parts[1] == "location") found += parts[2].orEmpty()
    }

    private fun eachField(start: Int, end: Int, wanted: Set<Int>, use: (Int, Int, Int) -> Unit) {
        at = start
        while (at < end) {
            val tag = varint(end)
            val number = (tag ushr 3).toInt()
            if (number == 0 || tag ushr 32 != 0L) throw ModelFormatException("at byte $at: a field's number must be within 1 and 2^29 - 1")
            val wire = (tag and 7).toInt()
            val length = when (wire) {
                BYTES -> varint(end)
                VARINT -> 0L.also { varint(end) }
                FIXED64 -> 8L
                FIXED32 -> 4L
                else -> throw ModelFormatException("at byte $at: wire type $wire is not used by ONNX")
            }
            if (length < 0 || length > end - at) throw ModelFormatException("at byte $at: a field must end within its message")
            val next = at + length.toInt()
            if (number in wanted) {
                if (wire != BYTES) throw ModelFormatException("at byte $at: field $number must hold bytes")
                use(number, at, next)
            }
            at = next
        }
    }

    private fun varint(end: Int): Long {
        var value = 0L
        var shift = 0
        while (at < end && shift < 70) {
            val byte = data.get(at++).toLong()
            value = value or ((byte and 0x7f) shl shift)
            if (byte >= 0) return value
            shift += 7
        }
        throw ModelFormatException("at byte $at: a number must end within its message and 10 bytes")
    }
}
