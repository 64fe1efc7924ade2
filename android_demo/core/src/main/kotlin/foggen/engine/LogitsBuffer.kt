package foggen.engine

import ai.onnxruntime.OnnxTensor
import java.nio.ByteOrder
import java.nio.FloatBuffer

/** Logits outside the heap, and one row of them at a time on it. */
internal class LogitsBuffer(private val allocator: BufferAllocator, private val columns: Int) : AutoCloseable {
    private val environment = Onnxruntime.environment
    private val row = FloatArray(columns)
    private var buffer: FloatBuffer = FloatBuffer.allocate(0)
    private var bound: OnnxTensor? = null
    private var boundRows = 0

    /** Returns what a pass writes so many rows to: (1, rows, columns), float32. */
    fun tensor(rows: Int): OnnxTensor {
        bound?.takeIf { boundRows == rows }?.let { return it }
        close()
        if (rows * columns > buffer.capacity()) {
            buffer = allocator.allocate(rows * columns * Float.SIZE_BYTES).order(ByteOrder.nativeOrder()).asFloatBuffer()
        }
        val part = buffer.duplicate().apply { limit(rows * columns) }
        boundRows = rows
        return OnnxTensor.createTensor(environment, part, longArrayOf(1, rows.toLong(), columns.toLong())).also { bound = it }
    }

    /** Shows the last rows that were written. */
    fun last(count: Int): Logits = object : Logits {
        private val first = boundRows - count
        override val rows = count

        override fun row(index: Int): FloatArray {
            val source = buffer.duplicate()
            source.position((first + index) * columns)
            source.get(row)
            return row
        }
    }

    override fun close() {
        bound?.close()
        bound = null
    }
}
