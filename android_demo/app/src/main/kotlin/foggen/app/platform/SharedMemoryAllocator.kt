package foggen.app.platform

import android.os.SharedMemory
import android.system.ErrnoException
import foggen.EngineException
import foggen.engine.BufferAllocator
import java.nio.ByteBuffer

/** Memory that does not count towards the heap's limit, as Android's direct buffers do. */
object SharedMemoryAllocator : BufferAllocator {
    override fun allocate(bytes: Int): ByteBuffer =
        try {
            // A mapping outlives the descriptor; it ends when the buffer is collected.
            SharedMemory.create("foggen", bytes).use { it.mapReadWrite() }
        } catch (error: ErrnoException) {
            throw EngineException("memory: $bytes bytes cannot be had: ${error.message}", error)
        }
}
