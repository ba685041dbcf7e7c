# SPDX-License-Identifier: Apache-2.0
# Training of autoencoders and reconstruction.


rule train_autoencoder:
    input:
        start=jobs.start_weights,
    output:
        config="results/{benchmark}/autoencoders/{autoencoder}/{phase}/config.json",
        weights="results/{benchmark}/autoencoders/{autoencoder}/{phase}/diffusion_pytorch_model.safetensors",
    log:
        "results/{benchmark}/logs/train/{autoencoder}-{phase}.log",
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=1440,
    params:
        file=jobs.file,
        launch=jobs.launcher,
        start=jobs.start_option,
        folder=lambda wildcards, output: dirname(output.config),
        config=jobs.training_config,
        code=jobs.training_code,
    message:
        "training {wildcards.autoencoder}, phase {wildcards.phase}"
    shell:
        "{params.launch} train autoencoder {params.file} --autoencoder {wildcards.autoencoder} --phase {wildcards.phase}"
        " {params.start} --output {params.folder} --state {params.folder}.state"
        " ${{SLURM_JOB_ID:+--time-limit {resources.runtime}}} 2>&1 | tee -i {log}"


rule reference_features:
    output:
        "results/{benchmark}/reference/{purpose}/{dataset}-{resolution}.safetensors",
    log:
        "results/{benchmark}/logs/reference/{purpose}-{dataset}-{resolution}.log",
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=240,
    params:
        file=jobs.file,
        config=jobs.reference_config,
        code=jobs.reference_code,
    message:
        "reference features of {wildcards.dataset} at {wildcards.resolution} px for {wildcards.purpose}"
    shell:
        "dcae reference {params.file} --purpose {wildcards.purpose} --dataset {wildcards.dataset}"
        " --resolution {wildcards.resolution} --output {output} 2>&1 | tee -i {log}"


rule evaluate_reconstruction:
    input:
        weights=jobs.final_weights,
        reference="results/{benchmark}/reference/reconstruction/{dataset}-{resolution}.safetensors",
    output:
        record="results/{benchmark}/records/reconstruction/{dataset}-{resolution}/{autoencoder}.json",
        images="results/{benchmark}/samples/reconstruction/{dataset}-{resolution}/{autoencoder}.png",
        rows="results/{benchmark}/per_image/{dataset}-{resolution}/{autoencoder}.parquet",
    log:
        "results/{benchmark}/logs/reconstruction/{dataset}-{resolution}-{autoencoder}.log",
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=240,
    params:
        file=jobs.file,
        launch=jobs.launcher,
        weights=jobs.weights_option,
        state=lambda wildcards, output: output.rows.removesuffix(".parquet") + ".state",
        config=jobs.reconstruction_config,
        code=jobs.reconstruction_code,
    message:
        "reconstruction of {wildcards.dataset} at {wildcards.resolution} px by {wildcards.autoencoder}"
    shell:
        "{params.launch} evaluate {params.file} --autoencoder {wildcards.autoencoder} {params.weights}"
        " --dataset {wildcards.dataset} --resolution {wildcards.resolution} --reference {input.reference}"
        " --record {output.record} --images {output.images} --rows {output.rows} --state {params.state}"
        " 2>&1 | tee -i {log}"
