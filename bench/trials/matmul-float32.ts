import { matmulTrial } from '../matmul-trial.ts'

export default matmulTrial('float32', 0.8)
