/**
 * The device's times of a kernel: `samples` of them after half as many that warm it up, in one call, so that its arrays go to the device
 * once. Each is the mean of several runs (lib/kernels.ts, `timings`).
 */
export async function kernelTimes<Result>(
  samples: number,
  run: (timings: Float64Array) => Promise<Result>,
): Promise<{ times: number[]; result: Result }> {
  const warmUp = Math.ceil(samples / 2)
  const timings = new Float64Array(warmUp + samples)
  const result = await run(timings)
  return { times: [...timings.subarray(warmUp)], result }
}
