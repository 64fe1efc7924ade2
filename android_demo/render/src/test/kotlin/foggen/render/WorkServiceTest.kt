package foggen.render

import android.Manifest
import android.app.Notification
import android.content.Intent
import android.content.pm.ServiceInfo
import android.view.View
import foggen.app.R
import foggen.app.ask.FlushState
import foggen.app.benchmark.BenchmarkRequest
import foggen.app.benchmark.BenchmarkState
import foggen.app.platform.WorkService
import foggen.app.screens.BenchmarkActivity
import foggen.app.screens.Wording
import foggen.outbox.FlushReport
import foggen.profile.ProfileEvent
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ServiceController
import org.robolectric.annotation.Config
import org.robolectric.shadows.ShadowLooper
import org.robolectric.shadows.ShadowPowerManager

/** The foreground service, on Robolectric's imitation of Android 15. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], application = TestApplication::class, qualifiers = "en")
class WorkServiceTest {
    private val demo get() = RuntimeEnvironment.getApplication() as TestApplication

    private fun await(what: String, holds: () -> Boolean) {
        val end = System.nanoTime() + 20_000_000_000
        while (System.nanoTime() < end) {
            ShadowLooper.idleMainLooper()
            if (holds()) return
            Thread.sleep(10)
        }
        throw AssertionError("not within 20 seconds: $what")
    }

    /** Starts the service that the application has asked Android for. */
    private fun started(): ServiceController<WorkService> {
        lateinit var intent: Intent
        await("a request to start the service") { shadowOf(demo).nextStartedService?.also { intent = it } != null }
        assertEquals(WorkService::class.java.name, intent.component!!.className)
        return Robolectric.buildService(WorkService::class.java, intent).create().startCommand(0, 1)
    }

    private fun shown(service: WorkService): Notification {
        ShadowLooper.idleMainLooper()
        return shadowOf(service).lastForegroundNotification
    }

    private fun text(notification: Notification, name: String) = notification.extras.getCharSequence(name).toString()

    @Test
    fun `a benchmark is shown until it is stopped from its notification`() {
        demo.benchmark.run(BenchmarkRequest())
        val controller = started()
        val service = controller.get()
        await("three questions") { shown(service).extras.getInt(Notification.EXTRA_PROGRESS) == 3 }
        val notification = shown(service)
        assertEquals(20, notification.extras.getInt(Notification.EXTRA_PROGRESS_MAX))
        assertEquals("Measuring the model", text(notification, Notification.EXTRA_TITLE))
        assertEquals("Asked 3 of 20 questions", text(notification, Notification.EXTRA_TEXT))
        assertEquals(ServiceInfo.FOREGROUND_SERVICE_TYPE_SPECIAL_USE, service.foregroundServiceType)
        assertTrue(ShadowPowerManager.getLatestWakeLock().isHeld)
        val action = notification.actions.single()
        assertEquals("Stop", action.title)
        service.onStartCommand(shadowOf(action.actionIntent).savedIntent, 0, 2)
        await("the end") { shadowOf(service).isStoppedBySelf }
        assertEquals(BenchmarkState.Idle, demo.benchmark.state.value)
        assertTrue(shadowOf(service).isForegroundStopped)
        controller.destroy()
        assertFalse(ShadowPowerManager.getLatestWakeLock().isHeld)
    }

    @Test
    fun `a delivery has a type of its own, and tells how many wait`() {
        set<FlushState>(demo.flushing, FlushState.Sending(FlushReport(answered = 1, remaining = 2)))
        val service = started().get()
        val notification = shown(service)
        assertEquals("Sending the queue", text(notification, Notification.EXTRA_TITLE))
        assertEquals("2 questions wait for the cloud\n1 question was answered later", text(notification, Notification.EXTRA_TEXT))
        assertEquals(listOf(1, 3), listOf(Notification.EXTRA_PROGRESS, Notification.EXTRA_PROGRESS_MAX).map { notification.extras.getInt(it) })
        assertEquals(ServiceInfo.FOREGROUND_SERVICE_TYPE_DATA_SYNC, service.foregroundServiceType)
        set<FlushState>(demo.flushing, FlushState.Ended(FlushReport(answered = 3)))
        await("the end") { shadowOf(service).isStoppedBySelf }
    }

    @Test
    fun `the service comes to the foreground even where the run has ended already`() {
        set<BenchmarkState>(demo.benchmark, BenchmarkState.Running(ProfileEvent.Loading))
        await("the start") { shadowOf(demo).peekNextStartedService() != null }
        set<BenchmarkState>(demo.benchmark, BenchmarkState.Idle)
        val service = started().get()
        await("the end") { shadowOf(service).isStoppedBySelf }
        assertEquals(1, shadowOf(service).lastForegroundNotificationId)
    }

    @Test
    fun `Android's limit ends the run`() {
        demo.benchmark.run(BenchmarkRequest())
        val service = started().get()
        service.onTimeout(1, ServiceInfo.FOREGROUND_SERVICE_TYPE_DATA_SYNC)
        await("the end") { shadowOf(service).isStoppedBySelf && demo.benchmark.state.value == BenchmarkState.Idle }
    }

    @Test
    fun `who presses the button is asked for notifications, a script is not`() {
        val intent = Intent("foggen.app.action.BENCHMARK")
        val unattended = Robolectric.buildActivity(BenchmarkActivity::class.java, intent).setup().get()
        assertNull(shadowOf(unattended).lastRequestedPermission)
        demo.benchmark.cancel()
        val attended = Robolectric.buildActivity(BenchmarkActivity::class.java).setup().get()
        checkNotNull(attended.findViewById<View>(R.id.run)).performClick()
        assertEquals(listOf(Manifest.permission.POST_NOTIFICATIONS), shadowOf(attended).lastRequestedPermission.requestedPermissions.toList())
    }

    @Test
    @Config(qualifiers = "ru")
    fun `Russian counts by its own rules`() {
        val wording = Wording(demo.resources)
        val expected = mapOf(1 to "1 вопрос ждёт", 2 to "2 вопроса ждут", 5 to "5 вопросов ждут", 11 to "11 вопросов ждут", 21 to "21 вопрос ждёт")
        for ((count, text) in expected) assertTrue(wording.queue(count, 0), wording.queue(count, 0).startsWith("$text облака\n"))
        assertEquals("Задано 0 из 22 вопросов", wording.measuring(ProfileEvent.Asked(0, 22)))
    }
}
